"""One HTTP/2 connection of the load generator (RFC 9113), for unary calls only.

Header blocks are made once, windows are so large that no response waits for one, and the calls of one turn of the loop
are sent in one write.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from bench.answers import DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, UNKNOWN, Response, status_of
from services.kit.http2 import frames
from services.kit.http2.frames import ProtocolError, frame
from services.kit.http2.headers import NO_TABLE, HeaderError, request_block

Headers = Sequence[tuple[str, str]]

# How long an engine waits for a response before it gives the try up (clients.md#go-client).
CALL_SECONDS = 15
_SWEEP_SECONDS = 0.5
# A server may count a call for a moment longer than its client does.
_REFUSED_SECONDS = 0.001

_GRPC_PREFIX = struct.Struct(">BI")  # compressed, length
# The number of streams without a limit of the server.
_NO_STREAM_LIMIT = 1 << 31
_TOP_UP = 1 << 30
# Deadlines differ by up to this many microseconds.
_TIMEOUTS = 100_000
# A literal field of HPACK up to its value, which has nine characters.
_TIMEOUT_NAME = b"\x00\x0cgrpc-timeout\x09"
# A connection retires long before its stream ids run out.
_LAST_STREAM = 1 << 30


@dataclass(slots=True, eq=False)
class _Call:
    """A call under way. `unsent` is the part of the request that waits for the server's windows."""

    response: asyncio.Future[Response]
    expires: float
    stream: int
    window: int
    unsent: memoryview
    path: str
    request: bytes
    body: bytes = b""
    block: bytes = b""  # of headers that CONTINUATION frames complete
    ends: bool = False  # with the block


class Connection(asyncio.Protocol):
    """One connection; all methods are for the loop's thread."""

    def __init__(self, authority: str, headers: Headers = ()) -> None:
        self._loop = asyncio.get_running_loop()
        self._authority = authority
        self._more = headers
        self._headers: dict[str, bytes] = {}
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._out: list[bytes] = []
        self._calls: dict[int, _Call] = {}
        self._blocked: deque[_Call] = deque()
        self._waiting: deque[tuple[str, bytes, asyncio.Future[Response]]] = deque()
        self._next_stream = 1
        self._window = frames.INITIAL_WINDOW
        self._call_window = frames.INITIAL_WINDOW
        self._frame_size = frames.FRAME_SIZE
        self._most_calls = _NO_STREAM_LIMIT
        self._received = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self.usable = False
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when the server has sent its limits or the connection is lost."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send this side's limits to the server."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, but not by inheritance
        settings = (
            (frames.HEADER_TABLE_SIZE, NO_TABLE),
            (frames.ENABLE_PUSH, 0),
            (frames.INITIAL_WINDOW_SIZE, frames.LARGEST_WINDOW),
        )
        payload = b"".join(frames.SETTING.pack(name, value) for name, value in settings)
        top_up = frames.UINT32.pack(frames.LARGEST_WINDOW - frames.INITIAL_WINDOW)
        greeting = frame(frames.SETTINGS, 0, 0, payload) + frame(frames.WINDOW_UPDATE, 0, 0, top_up)
        self._transport.write(frames.PREFACE + greeting)
        self.usable = True
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the calls under way with UNAVAILABLE."""
        self.usable = False
        if not self.ready.done():
            self.ready.set_result(None)
        if self._sweeper is not None:
            self._sweeper.cancel()
        lost = Response(UNAVAILABLE, f"connection lost: {exc or 'closed by the server'}", b"")
        for call in self._calls.values():
            _resolve(call.response, lost)
        for _, _, response in self._waiting:
            _resolve(response, lost)
        self._calls.clear()
        self._waiting.clear()
        self._blocked.clear()

    def close(self) -> None:
        """End the connection; calls under way end with UNAVAILABLE."""
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def call(self, path: str, request: bytes) -> asyncio.Future[Response]:
        """Begin a call of the method at `path`; its future is resolved in every case and never raises."""
        response: asyncio.Future[Response] = self._loop.create_future()
        if len(self._calls) < self._most_calls:
            self._begin(path, request, response)
        else:
            self._waiting.append((path, request, response))
        return response

    def _begin(self, path: str, request: bytes, response: asyncio.Future[Response]) -> None:
        stream = self._next_stream
        self._next_stream += 2
        if self._next_stream > _LAST_STREAM:
            self.usable = False
        headers = (self._headers.get(path) or self._make_headers(path)) + self._timeout(stream)
        size = len(request) + _GRPC_PREFIX.size
        expires = self._loop.time() + CALL_SECONDS
        call = _Call(response, expires, stream, self._call_window, memoryview(b""), path, request)
        self._calls[stream] = call
        self._write(frame(frames.HEADERS, frames.END_HEADERS, stream, headers))
        if size <= self._frame_size and size <= self._window and size <= call.window and not self._blocked:
            self._window -= size
            message = _GRPC_PREFIX.pack(0, len(request)) + request
            self._write(frame(frames.DATA, frames.END_STREAM, stream, message))
        else:
            call.unsent = memoryview(_GRPC_PREFIX.pack(0, len(request)) + request)
            self._blocked.append(call)
            self._send_blocked()

    def _make_headers(self, path: str) -> bytes:
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._authority),
            ("content-type", "application/grpc"),
            ("user-agent", "flyteplane-bench"),
            ("te", "trailers"),
            *self._more,
        ]
        block = self._headers[path] = request_block(fields)
        return block

    def _timeout(self, stream: int) -> bytes:
        """Return a deadline as an engine sends it: Go's client sends the remaining microseconds."""
        spent = stream % _TIMEOUTS
        return _TIMEOUT_NAME + b"%08du" % (CALL_SECONDS * 1_000_000 - spent)

    def _send_blocked(self) -> None:
        """Send as much of the waiting requests as the windows allow, in the order of their calls."""
        remaining: deque[_Call] = deque()
        for call in self._blocked:
            while call.unsent and (size := min(self._window, call.window, self._frame_size, len(call.unsent))) > 0:
                piece, call.unsent = bytes(call.unsent[:size]), call.unsent[size:]
                self._window -= size
                call.window -= size
                self._write(frame(frames.DATA, 0 if call.unsent else frames.END_STREAM, call.stream, piece))
            if call.unsent and call.stream in self._calls:
                remaining.append(call)
        self._blocked = remaining

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        """Process the complete frames; keep the rest for the next call."""
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        try:
            while end - position >= frames.FRAME.size:
                high, low, kind, flags, stream = frames.FRAME.unpack_from(data, position)
                following = position + frames.FRAME.size + (high << 8 | low)
                if following > end:
                    break
                self._take(kind, flags, stream, data[position + frames.FRAME.size : following])
                position = following
        except (HeaderError, ProtocolError, struct.error, ValueError) as error:
            self._fail(f"the server's HTTP/2 cannot be read: {error!r}")
        self._rest = data[position:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        call = self._calls.get(stream)
        if kind == frames.DATA:
            self._credit(len(payload))
            if call is not None:
                body = frames.strip_padding(payload) if flags & frames.PADDED else payload
                call.body = call.body + body if call.body else body
                if flags & frames.END_STREAM:
                    self._end(call, Response(UNKNOWN, "the response ended without grpc-status", b""))
        elif kind in {frames.HEADERS, frames.CONTINUATION}:
            if call is not None:
                self._take_headers(call, kind, flags, payload)
        elif kind == frames.WINDOW_UPDATE:
            grown = frames.UINT32.unpack(payload)[0]
            if not stream:
                self._window += grown
            elif call is not None:
                call.window += grown
            self._send_blocked()
        elif kind == frames.RST_STREAM:
            if call is not None:
                self._reset(call, frames.UINT32.unpack(payload)[0])
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._take_settings(payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self._write(frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.GOAWAY:
            self._take_goaway(frames.UINT32.unpack_from(payload)[0] & frames.STREAM_BITS)

    def _take_headers(self, call: _Call, kind: int, flags: int, payload: bytes) -> None:
        if kind == frames.HEADERS:
            call.ends = bool(flags & frames.END_STREAM)
            payload = frames.header_block(flags, payload)
        call.block += payload
        if flags & frames.END_HEADERS:
            block, call.block = call.block, b""
            # Without a dynamic table a block may stay unread; only the last one of a response has the status.
            if call.ends:
                code, message, details = status_of(block)
                self._end(call, Response(code, message, call.body[_GRPC_PREFIX.size :], details))

    def _reset(self, call: _Call, code: int) -> None:
        """Send a refused call again, as the server has not begun it and gRPC clients do so; fail any other."""
        if code == frames.REFUSED_STREAM and self.usable:
            del self._calls[call.stream]
            self._loop.call_later(_REFUSED_SECONDS, self._again, call)
        else:
            self._end(call, Response(INTERNAL, f"stream reset with {code}", b""))

    def _again(self, call: _Call) -> None:
        if not self.usable or self._loop.time() > call.expires:
            _resolve(call.response, Response(UNAVAILABLE, "the server takes no more calls", b""))
        else:
            self._waiting.append((call.path, call.request, call.response))
            self._begin_waiting()

    def _take_settings(self, payload: bytes) -> None:
        for name, value in frames.SETTING.iter_unpack(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._call_window
                self._call_window = value
            elif name == frames.MAX_FRAME_SIZE:
                self._frame_size = value
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self._most_calls = value
        if not self.ready.done():
            self.ready.set_result(None)
        self._write(frame(frames.SETTINGS, frames.ACK, 0, b""))
        self._send_blocked()
        self._begin_waiting()

    def _take_goaway(self, last: int) -> None:
        """Close for new calls; end those that the server has not begun with UNAVAILABLE, so they are retried."""
        self.usable = False
        for call in [call for call in self._calls.values() if call.stream > last]:
            self._end(call, Response(UNAVAILABLE, "the server is leaving", b""))
        for _, _, response in self._waiting:
            _resolve(response, Response(UNAVAILABLE, "the server is leaving", b""))
        self._waiting.clear()

    def _end(self, call: _Call, response: Response) -> None:
        self._calls.pop(call.stream, None)
        _resolve(call.response, response)
        if self._waiting:
            self._begin_waiting()
        elif not self.usable and not self._calls:
            self.close()

    def _begin_waiting(self) -> None:
        while self._waiting and len(self._calls) < self._most_calls:
            self._begin(*self._waiting.popleft())

    def _credit(self, size: int) -> None:
        """Open the server's window again after each _TOP_UP bytes."""
        self._received += size
        if self._received >= _TOP_UP:
            self._write(frame(frames.WINDOW_UPDATE, 0, 0, frames.UINT32.pack(self._received)))
            self._received = 0

    def _sweep(self) -> None:
        """End calls without a response in time. `_calls` is in the order in which they were begun."""
        now = self._loop.time()
        expired = []
        for call in self._calls.values():
            if call.expires > now:
                break
            expired.append(call)
        for call in expired:
            self._write(frame(frames.RST_STREAM, 0, call.stream, frames.UINT32.pack(frames.CANCEL)))
            self._end(call, Response(DEADLINE_EXCEEDED, f"no response within {CALL_SECONDS} s", b""))
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _fail(self, why: str) -> None:
        for call in list(self._calls.values()):
            self._end(call, Response(INTERNAL, why, b""))
        self.close()


def _resolve(future: asyncio.Future[Response], response: Response) -> None:
    if not future.done():
        future.set_result(response)
