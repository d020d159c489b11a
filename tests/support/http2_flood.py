"""An HTTP/2 client that sends as much of many requests as the server allows, and completes none."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from services.kit.http2.frames import (
    ACK,
    DATA,
    FRAME_SIZE,
    INITIAL_WINDOW,
    INITIAL_WINDOW_SIZE,
    SETTING,
    SETTINGS,
    UINT32,
    WINDOW_UPDATE,
    frame,
)
from tests.support.http2_client import Client, Exchange, Frame, begun
from tests.support.server_calls import open_connection

_IDLE_SECONDS = 0.5  # without a byte that could be sent
_POLL_SECONDS = 0.01


class Flood(Client):
    """A client that respects the server's windows."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._window = self._stream_window = INITIAL_WINDOW
        self._credit: Counter[int] = Counter()

    async def read(self) -> None:
        """Read frames until the connection ends."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self.next()

    async def begin(self, path: str, numbers: Iterable[int], size: int) -> list[Exchange]:
        """Begin requests whose bodies of `size` bytes do not end; return the responses to those that have one."""
        headers = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)]
        headers += [("content-type", "application/grpc"), ("te", "trailers")]
        unsent = dict.fromkeys(numbers, size)
        self.send(*(begun(number, headers) for number in unsent))
        idle = 0.0
        while idle < _IDLE_SECONDS and any(unsent.values()):
            sent = sum(self._send_some(number, unsent) for number in list(unsent) if not self._ended(number))
            await self.writer.drain()
            await asyncio.sleep(0 if sent else _POLL_SECONDS)
            idle = 0 if sent else idle + _POLL_SECONDS
        return [self.streams[number] for number in unsent if self._ended(number)]

    def _ended(self, number: int) -> bool:
        exchange = self.streams.get(number)
        return exchange is not None and (exchange.ended or exchange.reset is not None)

    def _send_some(self, number: int, unsent: dict[int, int]) -> int:
        size = min(unsent[number], self._window, self._stream_window + self._credit[number], FRAME_SIZE)
        if size > 0:
            # The header of a gRPC frame, and zeros.
            body = (bytes(1) + (1 << 22).to_bytes(4, "big") + bytes(size))[:size]
            self.send(frame(DATA, 0, number, body))
            self._window -= size
            self._credit[number] -= size
            unsent[number] -= size
        return max(size, 0)

    def _process(self, received: Frame) -> None:
        if received.kind == WINDOW_UPDATE:
            step = UINT32.unpack(received.payload)[0]
            if received.number:
                self._credit[received.number] += step
            else:
                self._window += step
        elif received.kind == SETTINGS and not received.flags & ACK:
            values = dict(SETTING.iter_unpack(received.payload))
            self._stream_window = values.get(INITIAL_WINDOW_SIZE, self._stream_window)
        super()._process(received)


@asynccontextmanager
async def flooding(address: str) -> AsyncIterator[Flood]:
    """Connect to host:port or unix:PATH for the length of a block."""
    flood = Flood(*await open_connection(address))
    await flood.greet()
    reading = asyncio.create_task(flood.read())
    try:
        yield flood
    finally:
        flood.writer.close()
        await reading
