"""The HTTP/2 server: which requests it accepts, and the response for each outcome."""

import asyncio
import base64
import gzip
import socket
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from services.kit.errors import Code, NotFound, ResourceExhausted, ServiceError
from services.kit.rpc.http2_server import Http2Server
from services.kit.rpc.table import Table
from tests.support.parts import free_port
from tests.support.server_calls import LIMIT, call, open_connection, serve_call, serving
from tests.support.toy_service import METHOD_PATH, TEXT, ToyService, echo, failing, frame


async def test_a_reply_is_one_frame() -> None:
    for pieces in ([frame(b"\n\x01x")], [b"\0", b"\0\0\0\x03\n", b"\x01x", b""]):
        response = await serve_call(ToyService(echo), *pieces)
        assert (response.status, response.code, response.body) == (200, Code.OK, frame(b"\n\x01x"))
        assert response.headers["content-type"] == "application/grpc"


async def test_an_empty_reply_is_a_frame_too() -> None:
    assert (await serve_call(ToyService(echo), frame(b""))).body == frame(b"")


async def test_stored_bytes_pass_through() -> None:
    async def stored(_: Any) -> bytes:
        return b"as it was"

    assert (await serve_call(ToyService(stored), frame(b""))).body == frame(b"as it was")


@pytest.mark.parametrize("raised", ServiceError.__subclasses__(), ids=lambda raised: raised.__name__)
async def test_a_failure_is_headers_without_a_body(raised: type[ServiceError]) -> None:
    detail = BadRequest(field_violations=[BadRequest.FieldViolation(field="x")])
    response = await serve_call(ToyService(failing(raised("why", detail))), frame(b""))
    assert (response.status, response.body) == (200, b"")
    assert (response.code, response.message) == (raised.code, "why")
    details = response.headers["grpc-status-details-bin"]
    status = Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    assert (status.code, status.message) == (raised.code, "why")
    assert status.details[0].type_url.endswith("/google.rpc.BadRequest")


@pytest.mark.parametrize(
    ("message", "header"),
    [
        ('plain, with [brackets] and: "quotes" ~', 'plain, with [brackets] and: "quotes" ~'),
        ("100%", "100%25"),
        ("é\n", "%C3%A9%0A"),
        (" at both ends ", "%20at both ends%20"),
        (" ", "%20"),
        ("", ""),
    ],
)
async def test_an_error_message_is_escaped_as_in_grpc(message: str, header: str) -> None:
    response = await serve_call(ToyService(failing(NotFound(message))), frame(b""))
    assert (response.headers["grpc-message"], response.message) == (header, message)
    assert "grpc-status-details-bin" not in response.headers


async def test_an_unexpected_exception_is_internal_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    response = await serve_call(ToyService(failing(KeyError("secret"))), frame(b""))
    assert response.code is Code.INTERNAL
    assert "secret" not in response.message
    assert "secret" in caplog.text


async def test_an_unknown_method_is_unimplemented_by_name() -> None:
    response = await serve_call(ToyService(echo), frame(b""), path="/test.Toy/Other")
    assert (response.code, response.message) == (Code.UNIMPLEMENTED, "unknown method Other for service test.Toy")


@pytest.mark.parametrize(
    "body",
    [
        [b""],
        [b"\0\0"],
        [b"garbage that is no frame"],
        [frame(b"\n\x01")],
        [frame(b"\n\x01x", length=4)],
        [frame(b"\n\x01x"), frame(b"\n\x01x")],
        [frame(b"no gzip", compressed=True)],
        [frame(gzip.compress(b"\n\x01x")[:-3], compressed=True)],
    ],
)
async def test_a_body_that_is_not_one_whole_message_is_refused(body: list[bytes]) -> None:
    toy_service = ToyService(echo)
    response = await serve_call(toy_service, *body, headers=(("grpc-encoding", "gzip"),))
    assert response.code in {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}
    assert not toy_service.calls


async def test_a_request_over_the_limit_is_refused() -> None:
    toy_service = ToyService(echo)
    response = await serve_call(toy_service, frame(bytes(LIMIT), length=LIMIT + 1), b"x")
    assert response.code is ResourceExhausted.code
    assert response.message == "Received message larger than max (1001 vs. 1000)"
    assert not toy_service.calls
    largest = TEXT(text="x" * (LIMIT - 3)).SerializeToString()
    assert len(largest) == LIMIT
    assert (await serve_call(toy_service, frame(largest))).body == frame(largest)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_message_is_decompressed_up_to_the_limit(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    headers = (("grpc-encoding", encoding),)
    plain = TEXT(text="x" * 900).SerializeToString()
    assert (await serve_call(ToyService(echo), frame(compress(plain), compressed=True), headers=headers)).body == frame(
        plain
    )
    assert (await serve_call(ToyService(echo), frame(plain), headers=headers)).body == frame(plain)
    bomb = compress(bytes(10_000_000))
    large = await serve_call(ToyService(echo), frame(bomb[:LIMIT], compressed=True), headers=headers)
    assert large.code is Code.RESOURCE_EXHAUSTED
    assert "message larger than max" in large.message


async def test_an_unknown_encoding_is_unimplemented() -> None:
    response = await serve_call(ToyService(echo), frame(b"x", compressed=True), headers=(("grpc-encoding", "br"),))
    assert response.code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("grpc_timeout", "seconds"),
    [("2H", 7200.0), ("1M", 60.0), ("15S", 15.0), ("250m", 0.25), ("9u", 9e-6), ("99999999n", 0.099999999)]
    + [(wrong, None) for wrong in ("", "15", "S", "-1S", "1.5S", "999999999S", "15s", "١S")],
)
async def test_grpc_timeout_is_parsed_as_in_grpc(grpc_timeout: str, seconds: float | None) -> None:
    toy_service = ToyService(echo)
    began = asyncio.get_running_loop().time()
    await serve_call(toy_service, frame(b""), headers=(("grpc-timeout", grpc_timeout),))
    (recorded,) = toy_service.calls
    if seconds is None:
        assert recorded.deadline is None
    else:
        assert recorded.deadline is not None
        assert seconds <= recorded.deadline - began < seconds + 5


async def test_a_call_at_its_deadline_is_deadline_exceeded_and_its_handler_cancelled() -> None:
    ended = asyncio.Event()

    async def never(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    response = await serve_call(ToyService(never), frame(b""), headers=(("grpc-timeout", "20m"),))
    assert response.code is Code.DEADLINE_EXCEEDED
    assert ended.is_set()


async def test_a_timeout_error_of_the_handler_is_internal() -> None:
    response = await serve_call(ToyService(failing(TimeoutError())), frame(b""), headers=(("grpc-timeout", "15S"),))
    assert response.code is Code.INTERNAL


async def test_headers_are_metadata_of_the_call() -> None:
    toy_service = ToyService(echo)
    await serve_call(toy_service, frame(b""), headers=(("traceparent", "00-1-2-01"), ("authorization", "Bearer x")))
    assert toy_service.calls[0].metadata["traceparent"] == "00-1-2-01"
    assert toy_service.calls[0].metadata["authorization"] == "Bearer x"


async def test_a_second_server_on_the_port_is_refused() -> None:
    async with serving(ToyService(echo)) as address:
        with pytest.raises(OSError, match="in use"):
            await Http2Server(Table(), address, LIMIT).start()


@pytest.mark.parametrize(("patience", "code"), [(30.0, Code.OK), (0.0, Code.UNAVAILABLE)])
async def test_stop_waits_for_calls_and_then_makes_them_unavailable(patience: float, code: Code) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> Any:
        begun.set()
        await may_end.wait()
        return await echo(request)

    address = f"127.0.0.1:{free_port()}"
    server = Http2Server(ToyService(slow).table, address, LIMIT)
    await server.start()
    answering = asyncio.create_task(call(address, frame(b"")))
    await begun.wait()
    stopping = asyncio.create_task(server.stop(patience))
    if patience:
        may_end.set()
    response = await answering
    assert response.code is code
    assert code is Code.OK or response.message == "the service is ending"
    await stopping
    with pytest.raises(ConnectionError):
        await call(address, frame(b""))


async def test_bytes_that_are_no_request_do_not_affect_other_calls() -> None:
    async with serving(ToyService(echo)) as address:
        for data in (
            b"",
            b"PRI * HTTP/2.0",
            f"POST {METHOD_PATH} HTTP/1.1\r\nhost: x\r\n".encode(),
            b"\0nonsense\r\n\r\n",
        ):
            _, writer = await open_connection(address)
            writer.write(data)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert (await call(address, frame(b""))).body == frame(b"")


async def test_a_socket_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "server.sock"))
    stale.close()
    async with serving(ToyService(echo), f"unix:{tmp_path}/server.sock") as address:
        request = frame(TEXT(text="soup").SerializeToString())
        assert (await call(address, request)).body == request
