"""The server for the gateway, and a caller that speaks as the gateway does."""

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
from tests.support.toy_service import COOK, ToyService

LIMIT = 1000
"""Bytes of the largest message."""

Headers = Sequence[tuple[str, str]]


@dataclass
class Answer:
    """What came back; trailers count as headers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> Code:
        """Of gRPC."""
        return Code(int(self.headers["grpc-status"]))

    @property
    def message(self) -> str:
        """Of a failure."""
        return unquote(self.headers["grpc-message"])


async def open_connection(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to host:port or unix:PATH."""
    if address.startswith(UNIX):
        return await asyncio.open_unix_connection(address.removeprefix(UNIX))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


@asynccontextmanager
async def serving(toy_service: ToyService, address: str = "") -> AsyncIterator[str]:
    """Serve for the length of a block; yields the address."""
    address = address or f"127.0.0.1:{free_port()}"
    front = Http2Server(toy_service.table, address, LIMIT)
    await front.start()
    try:
        yield address
    finally:
        await front.stop(0)


async def call(address: str, *pieces: bytes, path: str = COOK, headers: Headers = ()) -> Answer:
    """Send a request whose body travels in `pieces`."""
    reader, writer = await open_connection(address)
    client = http2_client.Client(reader, writer)
    await client.greet()
    said = [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc"), *headers]
    client.send(http2_client.begun(1, said))
    for number, piece in enumerate(pieces, 1):
        client.send(frame(DATA, END_STREAM if number == len(pieces) else 0, 1, piece))
    got = await client.answer()
    writer.close()
    await writer.wait_closed()
    fields = got.headers | got.trailers
    return Answer(int(fields.pop(":status")), fields, got.body)


async def ask(toy_service: ToyService, *pieces: bytes, path: str = COOK, headers: Headers = ()) -> Answer:
    """Serve one call."""
    async with serving(toy_service) as address:
        return await call(address, *pieces, path=path, headers=headers)
