"""Unary gRPC calls over clear-text HTTP/2 at a few microseconds each.

A load generator on the machine of the servers must cost little: grpcio's client takes some 200 microseconds a call,
more than the server does. So the generator has a client of its own (`http2_connection`).
"""

import asyncio

from bench.answers import UNAVAILABLE, Response
from bench.http2_connection import CALL_SECONDS, Connection, Headers


class Channel:
    """Several connections to one server, used in turn; the next call opens a lost one again.

    Every call has `headers` in addition to those of gRPC.
    """

    def __init__(self, host: str, port: int, connections: int, headers: Headers = ()) -> None:
        self._host = host
        self._port = port
        self._headers = headers
        self._connections: list[Connection | None] = [None] * connections
        self._opening = [asyncio.Lock() for _ in range(connections)]
        self._turn = 0

    async def call(self, path: str, request: bytes) -> Response:
        """Call the method at `path`; failures of every kind are responses."""
        self._turn = turn = (self._turn + 1) % len(self._connections)
        connection = self._connections[turn]
        if connection is None or not connection.usable:
            try:
                connection = await self._open(turn)
            except OSError as error:
                return Response(UNAVAILABLE, f"cannot connect: {error}", b"")
        return await connection.call(path, request)

    def close(self) -> None:
        """End every connection."""
        for connection in self._connections:
            if connection is not None:
                connection.close()

    async def _open(self, turn: int) -> Connection:
        async with self._opening[turn]:
            connection = self._connections[turn]
            if connection is None or not connection.usable:
                loop = asyncio.get_running_loop()
                authority = f"{self._host}:{self._port}"
                _, connection = await loop.create_connection(
                    lambda: Connection(authority, self._headers), self._host, self._port
                )
                try:
                    async with asyncio.timeout(CALL_SECONDS):
                        await connection.ready
                except TimeoutError:
                    connection.close()
                    raise
                if not connection.usable:
                    raise ConnectionError("closed at once")
                self._connections[turn] = connection
            return connection
