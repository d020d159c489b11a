"""A client that speaks HTTP/2 frame by frame, rightly or wrongly, and hides nothing of what it is answered."""

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
    NUMBER,
    PREFACE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)

_PIECE = 16_384  # bytes of a body in one frame
_LARGEST_ANSWER_HEADERS = 1 << 20  # bytes


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    number: int
    payload: bytes

    @property
    def bytes(self) -> bytes:
        """As it travels."""
        return frame(self.kind, self.flags, self.number, self.payload)


@dataclass
class Exchange:
    """What came on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    pieces: list[int] = field(default_factory=list)  # how long each DATA frame was
    ended: bool = False
    reset: int | None = None


def settings(values: Mapping[int, int] | None = None) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*setting) for setting in (values or {}).items()))


def window(number: int, step: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, number, NUMBER.pack(step))


def block(headers: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """A header block of a client that remembers nothing."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(headers)


PATH = ((":method", "POST"), (":scheme", "http"), (":path", "/x"))


def begun(number: int, headers: Iterable[tuple[str | bytes, str | bytes]] = PATH, flags: int = 0) -> bytes:
    """The headers of a request."""
    return frame(HEADERS, END_HEADERS | flags, number, block(headers))


def request(number: int, body: bytes = b"x", headers: Iterable[tuple[str | bytes, str | bytes]] = PATH) -> bytes:
    """A whole request."""
    pieces = [body[at : at + _PIECE] for at in range(0, len(body), _PIECE)] or [b""]
    data = b"".join(frame(DATA, 0, number, piece) for piece in pieces[:-1])
    return begun(number, headers) + data + frame(DATA, END_STREAM, number, pieces[-1])


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._decoder = Decoder(max_header_list_size=_LARGEST_ANSWER_HEADERS)
        self._block: bytes = b""
        self._block_flags = 0
        self.streams: dict[int, Exchange] = {}
        self.others: list[Frame] = []  # of no stream

    def send(self, *frames: bytes) -> None:
        """Write frames."""
        self.writer.write(b"".join(frames))

    async def greet(self, values: Mapping[int, int] | None = None) -> None:
        """Say hello, acknowledge what the server says to it, and hear the same from there."""
        self.send(PREFACE, settings(values))
        await self.until_frame(SETTINGS)
        self.send(frame(SETTINGS, ACK))
        await self.until_frame(SETTINGS, ACK)

    async def next(self) -> Frame:
        """Read one frame and take it up; raises IncompleteReadError when the connection has ended."""
        high, low, kind, flags, number = FRAME.unpack(await self._reader.readexactly(FRAME.size))
        got = Frame(kind, flags, number, await self._reader.readexactly(high << 8 | low))
        self._take(got)
        return got

    async def until_frame(self, kind: int, flags: int = 0) -> Frame:
        """Read until there is such a frame."""
        while True:
            got = await self.next()
            if got.kind == kind and got.flags == flags:
                return got

    async def answer(self, number: int = 1) -> Exchange:
        """Read until a stream is at its end."""
        exchange = self.streams.setdefault(number, Exchange())
        while not exchange.ended and exchange.reset is None:
            await self.next()
        return exchange

    async def rest(self) -> bytes:
        """Read until the connection has ended."""
        return await self._reader.read()

    def _take(self, got: Frame) -> None:
        if not got.number:
            self.others.append(got)
            return
        exchange = self.streams.setdefault(got.number, Exchange())
        if got.kind == DATA:
            exchange.body += got.payload
            exchange.pieces.append(len(got.payload))
            exchange.ended |= bool(got.flags & END_STREAM)
        elif got.kind == RST_STREAM:
            exchange.reset = NUMBER.unpack(got.payload)[0]
        elif got.kind in {HEADERS, CONTINUATION}:
            self._block += got.payload
            self._block_flags |= got.flags
            if got.flags & END_HEADERS:
                headers = {name.decode(): value.decode() for name, value in self._decoder.decode(self._block, raw=True)}
                exchange.ended |= bool(self._block_flags & END_STREAM)
                (exchange.trailers if exchange.headers else exchange.headers).update(headers)
                self._block, self._block_flags = b"", 0
