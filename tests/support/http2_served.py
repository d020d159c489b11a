"""A connection of HTTP/2 over a real socket: its client, and a small server that answers what tests want."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop

from services.kit.http2.connection import Connection, IncompleteRequests
from services.kit.http2.frames import NUMBER
from services.kit.http2.headers import STATUS_200, HeaderFieldCache, Headers, encode
from services.kit.http2.responses import Response
from services.kit.rpc.fairness import FairBudget
from tests.support.http2_client import Client
from tests.support.waiting import until

MOST = 100_000
"""Bytes of the largest body."""
CANCEL = NUMBER.pack(8)
"""Why a client resets a stream."""
SAYS = encode([(b"says", b"all")])
"""The trailers of an answer."""
TOO_MUCH, TOO_SLOW = (Response(STATUS_200 + encode([(b"refused", why)])) for why in (b"too much", b"too slow"))
"""What is answered to requests that do not arrive."""

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
"""The event loop of the tests and that of the services."""


@dataclass
class Served:
    """Answers each request: `answers` by its body, otherwise with that body. Keeps what it was asked."""

    answers: dict[bytes, Response] = field(default_factory=dict)
    asked: list[tuple[Headers, bytes]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0
    connections: set[Connection] = field(default_factory=set)

    async def serve(self, headers: Headers, body: bytes | bytearray) -> Response:
        self.asked.append((headers, bytes(body)))
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
        return self.answers.get(bytes(body)) or Response(STATUS_200, bytes(body), SAYS)

    @property
    def connection(self) -> Connection:
        (connection,) = self.connections
        return connection


@asynccontextmanager
async def connected(
    *, waits: bool = False, incomplete: IncompleteRequests | None = None
) -> AsyncIterator[tuple[Client, Served]]:
    """A client and what serves it, which `waits` until its may_answer is set."""
    served = Served()
    if not waits:
        served.may_answer.set()
    here, there = socket.socketpair()
    loop = asyncio.get_running_loop()
    allowed = incomplete or IncompleteRequests(FairBudget(10 * MOST), 60, TOO_MUCH, TOO_SLOW)
    await loop.create_connection(
        lambda: Connection(served.serve, MOST, HeaderFieldCache(), served.connections, allowed), sock=there
    )
    reader, writer = await asyncio.open_connection(sock=here)
    try:
        yield Client(reader, writer), served
    finally:
        writer.close()
        await until(lambda: not served.connections)


@asynccontextmanager
async def greeted(
    settings: dict[int, int] | None = None, *, waits: bool = False, incomplete: IncompleteRequests | None = None
) -> AsyncIterator[tuple[Client, Served]]:
    async with connected(waits=waits, incomplete=incomplete) as (client, served):
        await client.greet(settings)
        yield client, served


def padded(payload: bytes, padding: int) -> bytes:
    return bytes([padding]) + payload + bytes(padding)
