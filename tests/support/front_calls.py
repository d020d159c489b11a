"""The two fronts for the gateway, each with a caller that speaks as the gateway does, so that one test fits both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote

import httpx

from services.kit.asgi_front import AsgiFront
from services.kit.errors import Code
from services.kit.http2_frames import DATA, END_STREAM, frame
from services.kit.lean_front import LeanFront
from services.kit.settings import UNIX
from tests.support import http2_client
from tests.support.kitchen import COOK, Kitchen
from tests.support.parts import free_port

LIMIT = 1000
"""Bytes of the largest message."""

Headers = Sequence[tuple[str, str]]
GRPC = ("content-type", "application/grpc")


@dataclass
class Answer:
    """What came back; trailers count as headers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> Code:
        """Of gRPC; the bridge makes the trailer of a success."""
        return Code(int(self.headers.get("grpc-status", "0")))

    @property
    def message(self) -> str:
        """Of a failure."""
        return unquote(self.headers["grpc-message"])


async def _call_bridge(address: str, path: str, headers: Headers, pieces: Sequence[bytes]) -> Answer:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    socket = address.removeprefix(UNIX) if address.startswith(UNIX) else None
    url = f"http://{'front' if socket else address}{path}"
    raw = [(name.encode(), value.encode()) for name, value in headers]
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket)) as client:
        try:
            reply = await client.post(url, content=body(), headers=raw)
        except httpx.ConnectError as error:
            raise ConnectionError from error
    return Answer(reply.status_code, dict(reply.headers), reply.content)


async def _call_lean(address: str, path: str, headers: Headers, pieces: Sequence[bytes]) -> Answer:
    reader, writer = await open_connection(address)
    client = http2_client.Client(reader, writer)
    await client.greet()
    client.send(http2_client.begun(1, [(":method", "POST"), (":scheme", "http"), (":path", path), *headers]))
    for number, piece in enumerate(pieces, 1):
        client.send(frame(DATA, END_STREAM if number == len(pieces) else 0, 1, piece))
    got = await client.answer()
    writer.close()
    await writer.wait_closed()
    told = got.headers | got.trailers
    return Answer(int(told.pop(":status")), told, got.body)


async def open_connection(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to host:port or unix:PATH."""
    if address.startswith(UNIX):
        return await asyncio.open_unix_connection(address.removeprefix(UNIX))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


@dataclass(frozen=True)
class FrontKind:
    """A front and its caller."""

    make: type[AsgiFront] | type[LeanFront]
    send: Callable[[str, str, Headers, Sequence[bytes]], Awaitable[Answer]]

    @asynccontextmanager
    async def serving(self, kitchen: Kitchen, address: str = "") -> AsyncIterator[str]:
        """Serve for the length of a block; yields the address."""
        address = address or f"127.0.0.1:{free_port()}"
        front = self.make(kitchen.table, address, LIMIT)
        await front.start()
        try:
            yield address
        finally:
            await front.stop(0)

    async def call(self, address: str, *pieces: bytes, path: str = COOK, headers: Headers = ()) -> Answer:
        """Send a request whose body travels in `pieces`."""
        return await self.send(address, path, [GRPC, *headers], pieces)

    async def ask(self, kitchen: Kitchen, *pieces: bytes, path: str = COOK, headers: Headers = ()) -> Answer:
        """Serve one call."""
        async with self.serving(kitchen) as address:
            return await self.call(address, *pieces, path=path, headers=headers)


FRONTS = {"bridge": FrontKind(AsgiFront, _call_bridge), "lean": FrontKind(LeanFront, _call_lean)}
