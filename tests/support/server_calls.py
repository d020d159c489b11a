"""The HTTP/2 server with a toy service, and calls to it as the gateway sends them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote

from services.kit.errors import Code
from services.kit.http2.frames import DATA, END_STREAM, frame
from services.kit.process.settings import UNIX
from services.kit.rpc.http2_server import Http2Server
from tests.support import http2_client
from tests.support.parts import free_port
from tests.support.toy_service import METHOD_PATH, ToyService

LIMIT = 1000
"""Bytes of the largest message."""

Headers = Sequence[tuple[str, str]]


@dataclass
class CallResponse:
    """A response; headers include the trailers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> Code:
        """The gRPC status code."""
        return Code(int(self.headers["grpc-status"]))

    @property
    def message(self) -> str:
        """The gRPC message of a failure."""
        return unquote(self.headers["grpc-message"])


async def open_connection(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to host:port or unix:PATH."""
    if address.startswith(UNIX):
        return await asyncio.open_unix_connection(address.removeprefix(UNIX))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


@asynccontextmanager
async def serving(toy_service: ToyService, address: str = "") -> AsyncIterator[str]:
    """Serve during a block; yield the address."""
    address = address or f"127.0.0.1:{free_port()}"
    server = Http2Server(toy_service.table, address, LIMIT)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(0)


async def call(address: str, *pieces: bytes, path: str = METHOD_PATH, headers: Headers = ()) -> CallResponse:
    """Send a request, its body in `pieces`; return the response."""
    reader, writer = await open_connection(address)
    client = http2_client.Client(reader, writer)
    await client.greet()
    request_headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        *headers,
    ]
    client.send(http2_client.begun(1, request_headers))
    for number, piece in enumerate(pieces, 1):
        client.send(frame(DATA, END_STREAM if number == len(pieces) else 0, 1, piece))
    response = await client.response()
    writer.close()
    await writer.wait_closed()
    fields = response.headers | response.trailers
    return CallResponse(int(fields.pop(":status")), fields, response.body)


async def serve_call(
    toy_service: ToyService, *pieces: bytes, path: str = METHOD_PATH, headers: Headers = ()
) -> CallResponse:
    """Start a server for one call; return the response."""
    async with serving(toy_service) as address:
        return await call(address, *pieces, path=path, headers=headers)
