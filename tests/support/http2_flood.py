"""A client of HTTP/2 that sends as much of many requests as it is let, and finishes none."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from services.kit.http2.frames import (
    ACK,
    DATA,
    FIRST_WINDOW,
    FRAME_SIZE,
    INITIAL_WINDOW_SIZE,
    NUMBER,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from tests.support.http2_client import Client, Exchange, Frame, begun
from tests.support.server_calls import open_connection

_SETTLED_SECONDS = 0.5  # without a byte that could be sent
_POLL_SECONDS = 0.01


class Flood(Client):
    """Keeps to the windows that it is given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._window = self._stream_window = FIRST_WINDOW
        self._opened: Counter[int] = Counter()

    async def read(self) -> None:
        """Take up what comes until the connection ends."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self.next()

    async def begin(self, path: str, numbers: Iterable[int], size: int) -> list[Exchange]:
        """Begin requests whose bodies of `size` bytes do not end; return those that were answered nevertheless."""
        headers = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)]
        headers += [("content-type", "application/grpc"), ("te", "trailers")]
        left = dict.fromkeys(numbers, size)
        self.send(*(begun(number, headers) for number in left))
        settled = 0.0
        while settled < _SETTLED_SECONDS and any(left.values()):
            sent = sum(self._send_some(number, left) for number in list(left) if not self._over(number))
            await self.writer.drain()
            await asyncio.sleep(0 if sent else _POLL_SECONDS)
            settled = 0 if sent else settled + _POLL_SECONDS
        return [self.streams[number] for number in left if self._over(number)]

    def _over(self, number: int) -> bool:
        exchange = self.streams.get(number)
        return exchange is not None and (exchange.ended or exchange.reset is not None)

    def _send_some(self, number: int, left: dict[int, int]) -> int:
        size = min(left[number], self._window, self._stream_window + self._opened[number], FRAME_SIZE)
        if size > 0:
            # What a frame of a message begins with, and zeros.
            body = (bytes(1) + (1 << 22).to_bytes(4, "big") + bytes(size))[:size]
            self.send(frame(DATA, 0, number, body))
            self._window -= size
            self._opened[number] -= size
            left[number] -= size
        return max(size, 0)

    def _take(self, got: Frame) -> None:
        if got.kind == WINDOW_UPDATE:
            step = NUMBER.unpack(got.payload)[0]
            if got.number:
                self._opened[got.number] += step
            else:
                self._window += step
        elif got.kind == SETTINGS and not got.flags & ACK:
            values = dict(SETTING.iter_unpack(got.payload))
            self._stream_window = values.get(INITIAL_WINDOW_SIZE, self._stream_window)
        super()._take(got)


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
