"""An HTTP/2 connection over a real socket: a client, and a toy server with the responses of a test."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop

from services.kit.http2.connection import Connection, IncompleteRequests
from services.kit.http2.frames import UINT32
from services.kit.http2.headers import STATUS_200, HeaderFieldCache, Headers, encode
from services.kit.http2.responses import Response
from services.kit.rpc.fairness import FairBudget
from tests.support.http2_client import Client
from tests.support.waiting import until

MOST_BODY_BYTES = 100_000
"""Bytes of the largest body."""
CANCEL = UINT32.pack(8)
"""Why a client resets a stream."""
TRAILERS = encode([(b"trailer", b"all")])
"""The trailers of a response."""
TOO_MUCH, TOO_SLOW = (Response(STATUS_200 + encode([(b"refused", why)])) for why in (b"too much", b"too slow"))
"""The responses to requests that do not arrive."""

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
"""Runs a test in asyncio's event loop and in that of the services."""


@dataclass
class ToyServer:
    """Sends the response that `responses` has for a request's body, otherwise that body. Records all requests."""

    responses: dict[bytes, Response] = field(default_factory=dict)
    requests: list[tuple[Headers, bytes]] = field(default_factory=list)
    may_respond: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0
    connections: set[Connection] = field(default_factory=set)

    async def serve(self, headers: Headers, body: bytes | bytearray) -> Response:
        self.requests.append((headers, bytes(body)))
        try:
            await self.may_respond.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
        return self.responses.get(bytes(body)) or Response(STATUS_200, bytes(body), TRAILERS)

    @property
    def connection(self) -> Connection:
        (connection,) = self.connections
        return connection


@asynccontextmanager
async def connected(
    *, waits: bool = False, incomplete: IncompleteRequests | None = None
) -> AsyncIterator[tuple[Client, ToyServer]]:
    """Yield a client and its server; with `waits` responses are delayed until `may_respond` is set."""
    server = ToyServer()
    if not waits:
        server.may_respond.set()
    client_socket, server_socket = socket.socketpair()
    loop = asyncio.get_running_loop()
    limits = incomplete or IncompleteRequests(FairBudget(10 * MOST_BODY_BYTES), 60, TOO_MUCH, TOO_SLOW)
    await loop.create_connection(
        lambda: Connection(server.serve, MOST_BODY_BYTES, HeaderFieldCache(), server.connections, limits),
        sock=server_socket,
    )
    reader, writer = await asyncio.open_connection(sock=client_socket)
    try:
        yield Client(reader, writer), server
    finally:
        writer.close()
        await until(lambda: not server.connections)


@asynccontextmanager
async def greeted(
    settings: dict[int, int] | None = None, *, waits: bool = False, incomplete: IncompleteRequests | None = None
) -> AsyncIterator[tuple[Client, ToyServer]]:
    async with connected(waits=waits, incomplete=incomplete) as (client, server):
        await client.greet(settings)
        yield client, server


def padded(payload: bytes, padding: int) -> bytes:
    return bytes([padding]) + payload + bytes(padding)
