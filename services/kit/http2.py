"""The server's side of HTTP/2 (RFC 9113), as far as unary calls through a gateway need it.

One connection carries all calls of a gateway's worker, so that one system call brings many requests, and one takes all
answers that one turn of the event loop made. Requests are answered side by side, each by a task. What is answered is a
block of headers, or headers, a body and trailers. There is no push and no priority.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

from services.kit.header_blocks import MOST_HEADER_BYTES, NO_TABLE, HeaderBlocks, HeaderError, Headers, KnownFields

# The gateway opens another connection when it has more calls at a time (CONCURRENT_STREAMS in gateway/clusters.py).
MOST_STREAMS = 1000
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 3, 4, 5
_MAX_HEADER_LIST_SIZE = 6
_NO_ERROR, _PROTOCOL_ERROR, _FLOW_CONTROL_ERROR, _FRAME_SIZE_ERROR = 0, 1, 3, 6
_REFUSED_STREAM, _COMPRESSION_ERROR = 7, 9
_FRAME = struct.Struct(">HBBBI")  # length (16 and 8 bits), type, flags, stream
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")
_PRIORITY_BYTES = 5
_PING_BYTES = 8
# What both sides start from (RFC 9113, 6.5.2); what this side never changes for itself is the size of a frame.
_FIRST_WINDOW = 65_535
_FRAME_SIZE = 16_384
_LARGEST_WINDOW = (1 << 31) - 1
_STREAM_BITS = (1 << 31) - 1
# The window for all requests together is no limit: it is opened again before a half of it is used.
_TOP_UP = 1 << 30


class Reply(NamedTuple):
    """Blocks of headers and trailers, and the body between them; without a body there are no trailers either."""

    head: bytes
    body: bytes = b""
    trailers: bytes = b""


Serve = Callable[[Headers, bytes | bytearray], Awaitable[Reply]]


@dataclass(slots=True, eq=False)
class _Stream:
    """A request that has begun and is not answered yet."""

    number: int
    window: int
    headers: Headers
    body: bytes | bytearray = b""
    arrived: bool = False  # all of the request
    task: "asyncio.Task[None] | None" = None


class _Broken(Exception):
    """The client does not keep to HTTP/2; the connection ends with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Connection(asyncio.Protocol):
    """One connection. `serve` is given each request, or the beginning of one whose body is above `most` bytes.

    `serve` raises nothing; it is cancelled when its client gives up or goes. While it is open the connection is one of
    `among`.
    """

    def __init__(self, serve: Serve, most: int, known: KnownFields, among: "set[Connection]") -> None:
        self._among = among
        self._loop = asyncio.get_running_loop()
        self._serve = serve
        self._most = most
        self._blocks = HeaderBlocks(known)
        self._transport: asyncio.Transport | None = None
        self._rest = _PREFACE  # to come
        self._greeted = False
        self._out: list[bytes] = []
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._ending = False
        self._received = 0
        self._continued: tuple[int, int, bytes] | None = None  # stream, flags and headers so far
        self._window = _FIRST_WINDOW
        self._stream_window = _FIRST_WINDOW
        self._frame_size = _FRAME_SIZE
        self._blocked: deque[tuple[_Stream, memoryview, bytes]] = deque()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the client this side's limits."""
        self._among.add(self)
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        settings = (
            (_HEADER_TABLE_SIZE, NO_TABLE),
            (_MAX_CONCURRENT_STREAMS, MOST_STREAMS),
            # A body that is too large is recognized before it waits for the window.
            (_INITIAL_WINDOW_SIZE, min(self._most + 1, _LARGEST_WINDOW)),
            (_MAX_HEADER_LIST_SIZE, MOST_HEADER_BYTES),
        )
        self._send(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in settings))
        self._send(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(_LARGEST_WINDOW - _FIRST_WINDOW))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """Give up what nobody waits for any more."""
        self._among.discard(self)
        for stream in self._streams.values():
            if stream.task is not None:
                stream.task.cancel()
        self._streams.clear()
        self._blocked.clear()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Take what has come, as far as frames are whole."""
        try:
            self._take(self._rest + data if self._greeted and self._rest else data)
        except _Broken as broken:
            self._send(_GOAWAY, 0, 0, _NUMBER.pack(self._last) + _NUMBER.pack(broken.code))
            self._flush()
            if self._transport is not None:
                self._transport.close()

    # What its front calls.

    @property
    def tasks(self) -> list["asyncio.Task[None]"]:
        """The calls under way."""
        return [stream.task for stream in self._streams.values() if stream.task is not None]

    def end(self) -> None:
        """Take no more requests: the client is told which ones will not be answered, and comes again elsewhere."""
        self._ending = True
        self._send(_GOAWAY, 0, 0, _NUMBER.pack(self._last) + _NUMBER.pack(_NO_ERROR))

    def close(self) -> None:
        """End the connection when everything that was written has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # Reading.

    def _take(self, data: bytes) -> None:
        at = 0
        if not self._greeted:
            missing = len(self._rest)
            if not self._rest.startswith(data[:missing]):
                raise _Broken(_PROTOCOL_ERROR)
            self._rest = self._rest[len(data) :]
            if self._rest:
                return
            self._greeted = True
            at = missing
        end = len(data)
        while end - at >= _FRAME.size:
            high, low, kind, flags, number = _FRAME.unpack_from(data, at)
            size = high << 8 | low
            if size > _FRAME_SIZE:
                raise _Broken(_FRAME_SIZE_ERROR)
            begins = at + _FRAME.size
            if end - begins < size:
                break
            at = begins + size
            self._take_frame(kind, flags, number & _STREAM_BITS, data[begins:at])
        self._rest = data[at:]

    def _take_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._continued is not None and kind != _CONTINUATION:
            raise _Broken(_PROTOCOL_ERROR)
        if kind == _DATA:
            self._take_data(flags, number, payload)
        elif kind == _HEADERS:
            payload = _unpadded(payload, flags)
            self._take_block(flags, number, payload[_PRIORITY_BYTES:] if flags & _PRIORITY else payload)
        elif kind == _CONTINUATION:
            if self._continued is None or self._continued[0] != number:
                raise _Broken(_PROTOCOL_ERROR)
            _, first_flags, block = self._continued
            self._continued = None
            self._take_block(first_flags | flags & _END_HEADERS, number, block + payload)
        elif kind == _WINDOW_UPDATE:
            self._take_window(number, payload)
        elif kind == _RST_STREAM:
            self._given_up(number)
        elif kind == _SETTINGS:
            self._take_settings(flags, payload)
        elif kind == _PING and not flags & _ACK:
            if len(payload) != _PING_BYTES:
                raise _Broken(_FRAME_SIZE_ERROR)
            self._send(_PING, _ACK, 0, payload)

    def _take_block(self, flags: int, number: int, block: bytes) -> None:
        if len(block) > MOST_HEADER_BYTES:
            raise _Broken(_COMPRESSION_ERROR)
        if not flags & _END_HEADERS:
            self._continued = (number, flags, block)
            return
        try:
            headers = self._blocks.headers_of(block)
        except HeaderError as error:
            raise _Broken(_COMPRESSION_ERROR) from error
        stream = self._streams.get(number)
        if stream is not None:  # trailers, which say nothing here but that the request is over
            self._whole(stream)
            return
        if number % 2 == 0 or number <= self._last:
            raise _Broken(_PROTOCOL_ERROR)
        if self._ending:
            return
        self._last = number
        if len(self._streams) >= MOST_STREAMS:
            self._send(_RST_STREAM, 0, number, _NUMBER.pack(_REFUSED_STREAM))
            return
        stream = self._streams[number] = _Stream(number, self._stream_window, headers)
        if flags & _END_STREAM:
            self._whole(stream)

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received > _TOP_UP:
            self._send(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(self._received))
            self._received = 0
        stream = self._streams.get(number)
        if stream is None:  # answered or given up meanwhile
            if number > self._last and not self._ending:
                raise _Broken(_PROTOCOL_ERROR)
            return
        if stream.task is None:
            _add(stream, _unpadded(payload, flags))
        if flags & _END_STREAM:
            self._whole(stream)
        elif stream.task is None and len(stream.body) > self._most:
            self._begin(stream)

    def _whole(self, stream: _Stream) -> None:
        stream.arrived = True
        if stream.task is None:
            self._begin(stream)

    def _given_up(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            self._blocks.told()
            return
        if len(payload) % _SETTING.size:
            raise _Broken(_FRAME_SIZE_ERROR)
        for name, value in _SETTING.iter_unpack(payload):
            if name == _INITIAL_WINDOW_SIZE:
                if value > _LARGEST_WINDOW:
                    raise _Broken(_FLOW_CONTROL_ERROR)
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif name == _MAX_FRAME_SIZE:
                self._frame_size = max(value, _FRAME_SIZE)
        self._send(_SETTINGS, _ACK, 0)
        self._send_blocked()

    def _take_window(self, number: int, payload: bytes) -> None:
        if len(payload) != _NUMBER.size:
            raise _Broken(_FRAME_SIZE_ERROR)
        opened = _NUMBER.unpack(payload)[0] & _LARGEST_WINDOW
        if not number:
            self._window += opened
        elif (stream := self._streams.get(number)) is not None:
            stream.window += opened
        self._send_blocked()

    # Answering.

    def _begin(self, stream: _Stream) -> None:
        stream.task = self._loop.create_task(self._answer(stream))

    async def _answer(self, stream: _Stream) -> None:
        reply = await self._serve(stream.headers, stream.body)
        if self._streams.get(stream.number) is not stream:
            return
        if not reply.body:
            self._send_block(stream.number, reply.head, _END_STREAM)
            self._done(stream)
            return
        size = len(reply.body)
        self._send_block(stream.number, reply.head, 0)
        if size <= self._frame_size and size <= self._window and size <= stream.window:
            self._window -= size
            self._send(_DATA, 0, stream.number, reply.body)
            self._send_block(stream.number, reply.trailers, _END_STREAM)
            self._done(stream)
        else:
            self._blocked.append((stream, memoryview(reply.body), reply.trailers))
            self._send_blocked()

    def _send_blocked(self) -> None:
        """Send what the windows let through of answers that did not fit at once."""
        left: deque[tuple[_Stream, memoryview, bytes]] = deque()
        for stream, unsent, trailers in self._blocked:
            if self._streams.get(stream.number) is not stream:
                continue
            while unsent and (size := min(self._window, stream.window, self._frame_size, len(unsent))) > 0:
                self._send(_DATA, 0, stream.number, bytes(unsent[:size]))
                unsent = unsent[size:]  # noqa: PLW2901  # what is left of it
                self._window -= size
                stream.window -= size
            if unsent:
                left.append((stream, unsent, trailers))
            else:
                self._send_block(stream.number, trailers, _END_STREAM)
                self._done(stream)
        self._blocked = left

    def _done(self, stream: _Stream) -> None:
        del self._streams[stream.number]
        if not stream.arrived:
            # The answer is complete; what is still on its way of the request is of no use (RFC 9113, 8.1).
            self._send(_RST_STREAM, 0, stream.number, _NUMBER.pack(_NO_ERROR))

    def _send_block(self, number: int, block: bytes, flags: int) -> None:
        first, rest = block[: self._frame_size], block[self._frame_size :]
        self._send(_HEADERS, flags if rest else flags | _END_HEADERS, number, first)
        while rest:
            first, rest = rest[: self._frame_size], rest[self._frame_size :]
            self._send(_CONTINUATION, 0 if rest else _END_HEADERS, number, first)

    def _send(self, kind: int, flags: int, number: int, payload: bytes = b"") -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        size = len(payload)
        self._out.append(_FRAME.pack(size >> 8, size & 0xFF, kind, flags, number) + payload)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()


def _add(stream: _Stream, payload: bytes) -> None:
    """Nearly all bodies are one frame and stay what they are; in others every further frame would copy the whole."""
    if not stream.body:
        stream.body = payload
        return
    if isinstance(stream.body, bytes):
        stream.body = bytearray(stream.body)
    stream.body += payload


def _unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _Broken(_PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]
