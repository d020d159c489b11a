"""The client against a real gRPC server."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from bench.answers import OK, UNAVAILABLE, UNKNOWN, Response
from bench.http2 import Channel
from services.kit.http2.frames import frame

Serve = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], "asyncio.Future[bytes]"]
MEBIBYTE = 1 << 20


class Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """/echo, /fail (the request is code and message), /metadata (the user agent, and whether there is a deadline)."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        async def echo(request: bytes, _context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            return request

        async def fail(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            code, _, message = request.decode().partition(" ")
            await context.abort(grpc.StatusCode[code], message)

        async def metadata(_request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            received = dict(context.invocation_metadata() or ())
            remaining = context.time_remaining()
            return f"{received.get('user-agent')} {remaining is not None and remaining > 10}".encode()

        method = {"/echo": echo, "/fail": fail, "/metadata": metadata}.get(handler_call_details.method)
        return grpc.unary_unary_rpc_method_handler(method) if method else None


@asynccontextmanager
async def server(port: int = 0) -> AsyncIterator[int]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_concurrent_streams", 10), ("grpc.so_reuseport", 0)]
    running = grpc.aio.server(options=options)
    running.add_generic_rpc_handlers((Methods(),))
    bound = running.add_insecure_port(f"127.0.0.1:{port}")
    await running.start()
    try:
        yield bound
    finally:
        await running.stop(None)


@asynccontextmanager
async def channel(port: int, connections: int = 2) -> AsyncIterator[Channel]:
    made = Channel("127.0.0.1", port, connections)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
async def client() -> AsyncIterator[Channel]:
    async with server() as port, channel(port) as made:
        yield made


@pytest.mark.parametrize("size", [0, 1, 70, 16_000, 16_384, 16_385, 65_535, 300_000, 5 * MEBIBYTE])
async def test_message_of_any_size_is_sent_and_received(client: Channel, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    assert await client.call("/echo", body[:size]) == Response(OK, "", body[:size])


async def test_calls_beyond_the_servers_stream_limit_all_get_their_response(client: Channel) -> None:
    bodies = [struct.pack(">I", number) * (1 + number * 7 % 9000) for number in range(500)]
    responses = await asyncio.gather(*(client.call("/echo", body) for body in bodies))
    assert [response.body for response in responses] == bodies


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_failure_has_code_and_message(client: Channel, code: grpc.StatusCode) -> None:
    number: int = code.value[0]
    response = await client.call("/fail", f"{code.name} it's 100 % so: äöü ✓".encode())
    assert response == Response(number, "it's 100 % so: äöü ✓", b"")


async def test_unknown_method_is_unimplemented(client: Channel) -> None:
    assert (await client.call("/unknown", b"")).code == grpc.StatusCode.UNIMPLEMENTED.value[0]


async def test_server_receives_deadline_and_user_agent(client: Channel) -> None:
    assert (await client.call("/metadata", b"")).body == b"flyteplane-bench True"


async def test_call_without_a_server_is_unavailable() -> None:
    async with server() as port:
        pass
    async with channel(port) as lost:
        assert (await lost.call("/echo", b"")).code == UNAVAILABLE


async def test_channel_connects_again_to_a_server_that_comes_back() -> None:
    async with server() as port, channel(port, 1) as used:
        assert (await used.call("/echo", b"1")).code == OK
        lasting = Channel("127.0.0.1", port, 1)
        assert (await lasting.call("/echo", b"1")).code == OK
    async with server(port):
        codes = [(await lasting.call("/echo", b"2")).code for _ in range(2)]
    lasting.close()
    assert codes[-1] == OK


async def _response_of(*parts: bytes) -> Response:
    """Return the response of a server that sends one of `parts` after each read, whatever it has read."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(24 + 9 + 18 + 13)  # preface, settings, window
            writer.write(frame(4, 0, 0, b""))
            await reader.readexactly(9)  # the settings are acknowledged
            for part in parts:
                await reader.read(1 << 16)
                writer.write(part)
                await writer.drain()
            await reader.read()
        finally:
            writer.close()
            ended.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening, channel(listening.sockets[0].getsockname()[1], 1) as client:
        response = await client.call("/x", b"request")
        client.close()
        await ended.wait()
    return response


STATUS_OK = bytes.fromhex("000b") + b"grpc-status" + b"\x010"
RAW = [
    (frame(1, 5, 1, STATUS_OK), OK),
    (frame(1, 1, 1, STATUS_OK[:5]) + frame(9, 4, 1, STATUS_OK[5:]), OK),  # CONTINUATION
    (frame(1, 0x2D, 1, b"\x03" + bytes(5) + STATUS_OK + bytes(3)), OK),  # padding and priority
    (frame(4, 0, 0, struct.pack(">HI", 4, 1)) + frame(1, 5, 1, STATUS_OK), OK),  # a window of one byte
    (frame(3, 0, 1, struct.pack(">I", 2)), 13),
    (frame(7, 0, 0, struct.pack(">II", 0, 0)), UNAVAILABLE),  # GOAWAY before the call
    (frame(7, 0, 0, struct.pack(">II", 1, 0)) + frame(1, 5, 1, STATUS_OK), OK),  # GOAWAY after it
    (frame(1, 5, 1, b"\x88"), UNKNOWN),  # :status 200 alone
    (frame(1, 4, 1, b"\x88") + frame(0, 1, 1, b"\0\0\0\0\0"), UNKNOWN),
    (frame(1, 5, 1, b"\xff"), 13),
]


@pytest.mark.parametrize(("data", "code"), RAW)
async def test_frames_that_a_server_may_send_are_understood(data: bytes, code: int) -> None:
    assert (await _response_of(data)).code == code


async def test_refused_call_is_sent_again() -> None:
    assert (await _response_of(frame(3, 0, 1, struct.pack(">I", 7)), frame(1, 5, 3, STATUS_OK))).code == OK
