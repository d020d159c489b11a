"""Direct callers that disconnect at every moment of a call do no harm to a server or to others."""

import asyncio
import socket
import struct
from collections.abc import Callable

import grpc
import pytest

from services.kit.errors import NotFound
from services.kit.rpc.grpcio_server import GrpcioServer
from services.kit.rpc.http2_server import Http2Server
from tests.support.parts import free_port
from tests.support.toy_service import METHOD_PATH, TEXT, ToyService, failing

LIMIT = 1 << 20
# A close with this option sends RST instead of FIN.
RESET = struct.pack("ii", 1, 0)


async def bytes_of_a_call(port: int) -> bytes:
    """Return all that a gRPC client sends in a call that fails."""
    sent = bytearray()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray) -> None:
        while data := await reader.read(65536):
            record += data
            writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(relay(reader, to_server, sent), relay(from_server, writer, bytearray()))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as proxy:
        _, proxied = proxy.sockets[0].getsockname()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{proxied}") as channel:
            await fails(channel)
    return bytes(sent)


async def fails(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary(METHOD_PATH, TEXT.SerializeToString, TEXT.FromString)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call(TEXT(text="soup"), timeout=10)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


def disconnect(port: int, sent: bytes, *, reset: bool) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


MAKE: dict[str, Callable[[ToyService, str], GrpcioServer | Http2Server]] = {
    "grpcio": lambda service, address: GrpcioServer(service.table, (), address, LIMIT),
    "http2": lambda service, address: Http2Server(service.table, address, LIMIT),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_server_goes_on_when_callers_disconnect_at_any_byte(kind: str, *, reset: bool) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    server = MAKE[kind](ToyService(failing(NotFound("no soup"))), address)
    await server.start()
    try:
        sent = await bytes_of_a_call(port)
        for length in range(len(sent) + 1):
            await asyncio.to_thread(disconnect, port, sent[:length], reset=reset)
        async with grpc.aio.insecure_channel(address) as channel:
            await fails(channel)
    finally:
        await server.stop(0)
