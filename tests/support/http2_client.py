"""An HTTP/2 client that sends any frames, valid or not, and exposes every frame that it receives."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hpack import Decoder, Encoder

from services.kit.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    UINT32,
    WINDOW_UPDATE,
    frame,
)

_PIECE_BYTES = 16_384  # bytes of a body in one frame
_MOST_RESPONSE_HEADER_BYTES = 1 << 20  # bytes


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    number: int
    payload: bytes

    @property
    def bytes(self) -> bytes:
        """The encoded frame."""
        return frame(self.kind, self.flags, self.number, self.payload)


@dataclass
class Exchange:
    """The response received on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    pieces: list[int] = field(default_factory=list)  # length of each DATA frame
    ended: bool = False
    reset: int | None = None


def settings(values: Mapping[int, int] | None = None) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*setting) for setting in (values or {}).items()))


def window(number: int, step: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, number, UINT32.pack(step))


def block(headers: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """Return a header block of a client without a dynamic table."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(headers)


PATH = ((":method", "POST"), (":scheme", "http"), (":path", "/x"))


def begun(number: int, headers: Iterable[tuple[str | bytes, str | bytes]] = PATH, flags: int = 0) -> bytes:
    """Return the HEADERS frame of a request."""
    return frame(HEADERS, END_HEADERS | flags, number, block(headers))


def request(number: int, body: bytes = b"x", headers: Iterable[tuple[str | bytes, str | bytes]] = PATH) -> bytes:
    """Return all frames of a request."""
    pieces = [body[at : at + _PIECE_BYTES] for at in range(0, len(body), _PIECE_BYTES)] or [b""]
    data = b"".join(frame(DATA, 0, number, piece) for piece in pieces[:-1])
    return begun(number, headers) + data + frame(DATA, END_STREAM, number, pieces[-1])


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._decoder = Decoder(max_header_list_size=_MOST_RESPONSE_HEADER_BYTES)
        self._block: bytes = b""
        self._block_flags = 0
        self.streams: dict[int, Exchange] = {}
        self.others: list[Frame] = []  # of no stream

    def send(self, *frames: bytes) -> None:
        """Write frames."""
        self.writer.write(b"".join(frames))

    async def greet(self, values: Mapping[int, int] | None = None) -> None:
        """Exchange settings and their acknowledgements with the server."""
        self.send(PREFACE, settings(values))
        await self.until_frame(SETTINGS)
        self.send(frame(SETTINGS, ACK))
        await self.until_frame(SETTINGS, ACK)

    async def next(self) -> Frame:
        """Read and record one frame; raise IncompleteReadError when the connection has ended."""
        high, low, kind, flags, number = FRAME.unpack(await self._reader.readexactly(FRAME.size))
        received = Frame(kind, flags, number, await self._reader.readexactly(high << 8 | low))
        self._process(received)
        return received

    async def until_frame(self, kind: int, flags: int = 0) -> Frame:
        """Read until such a frame arrives; return it."""
        while True:
            received = await self.next()
            if received.kind == kind and received.flags == flags:
                return received

    async def response(self, number: int = 1) -> Exchange:
        """Read until a stream has ended; return its response."""
        exchange = self.streams.setdefault(number, Exchange())
        while not exchange.ended and exchange.reset is None:
            await self.next()
        return exchange

    async def rest(self) -> bytes:
        """Read until the connection has ended."""
        return await self._reader.read()

    def _process(self, received: Frame) -> None:
        if not received.number:
            self.others.append(received)
            return
        exchange = self.streams.setdefault(received.number, Exchange())
        if received.kind == DATA:
            exchange.body += received.payload
            exchange.pieces.append(len(received.payload))
            exchange.ended |= bool(received.flags & END_STREAM)
        elif received.kind == RST_STREAM:
            exchange.reset = UINT32.unpack(received.payload)[0]
        elif received.kind in {HEADERS, CONTINUATION}:
            self._block += received.payload
            self._block_flags |= received.flags
            if received.flags & END_HEADERS:
                headers = {name.decode(): value.decode() for name, value in self._decoder.decode(self._block, raw=True)}
                exchange.ended |= bool(self._block_flags & END_STREAM)
                (exchange.trailers if exchange.headers else exchange.headers).update(headers)
                self._block, self._block_flags = b"", 0
