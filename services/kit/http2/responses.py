"""What a server says over an HTTP/2 connection: frames, and answers as far as the client's windows let them through.

Frames are collected until the event loop has ended its turn, and leave together.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from services.kit.http2 import frames
from services.kit.http2.frames import ProtocolError
from services.kit.http2.headers import FIRST_TABLE, TABLE_EMPTIED, Headers
from services.kit.rpc.fairness import CONNECTION, UNREAD_RESPONSES

# A client that has left this much unread is sent short answers only; long ones wait here, where others pass them.
MOST_LONG_UNREAD = 1 << 20
# From one that has left this much unread nothing more is taken until it has read.
_MOST_UNREAD = 2 * MOST_LONG_UNREAD
# Of long answers, in one turn of the event loop.
_MOST_AT_ONCE = 1 << 20
# Of one answer at a time, before those of other clients.
_PIECE = 1 << 18


class Response(NamedTuple):
    """Blocks of headers and trailers, and the body between them; without a body there are no trailers either."""

    head: bytes
    body: bytes = b""
    trailers: bytes = b""


@dataclass(slots=True, eq=False)
class Stream:
    """A request that has begun and is not answered yet."""

    number: int
    headers: Headers
    body: bytes | bytearray = b""
    arrived: bool = False  # all of the request
    held: int = 0  # bytes of the body that are held for whoever sends it
    looks: int = 0  # that were taken before it had arrived
    seen: int = -1  # bytes of the body, at the last one
    task: "asyncio.Task[None] | None" = None
    opened: int = 0  # of its window, beside what every stream begins with; what was sent is taken off
    unsent: bytes | memoryview = b""  # of an answer that did not fit into the windows at once
    trailers: bytes = b""  # the end of such an answer

    @property
    def peer(self) -> str:
        """Whose request it is, of those whose calls the connection carries."""
        return self.headers.get(CONNECTION, "")


class ResponseWriter:
    """The way out of one connection. `done` is called for each stream whose answer has been sent to its end."""

    def __init__(self, transport: asyncio.Transport, done: Callable[[Stream], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._done = done
        self._out: list[bytes] = []
        self._blocked: dict[int, Stream] = {}  # whose answers wait for a window, the oldest first
        self._window = frames.FIRST_WINDOW  # of all streams together
        self._stream_window = frames.FIRST_WINDOW  # with which each begins
        self._frame_size = frames.FRAME_SIZE
        self._resize = b""
        self._room = _MOST_AT_ONCE  # for what waits
        self._paused = False

    # What the client allows.

    def set(self, name: int, value: int) -> None:
        """Keep to a setting of the client's; raises Broken when there can be no such value."""
        if name == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                raise ProtocolError(frames.FLOW_CONTROL_ERROR)
            self._stream_window = value
        elif name == frames.MAX_FRAME_SIZE:
            if not frames.FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                raise ProtocolError(frames.PROTOCOL_ERROR)
            self._frame_size = value
        elif name == frames.HEADER_TABLE_SIZE and value < FIRST_TABLE:
            # Must be said even where nothing is remembered (RFC 7541, 4.2).
            self._resize = TABLE_EMPTIED

    def open(self, step: int) -> None:
        """Widen the window of all streams together; raises Broken when it gets too wide."""
        self._window += step
        if self._window > frames.LARGEST_WINDOW:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR)
        self.send_blocked()

    def open_stream(self, stream: Stream, step: int) -> None:
        """Widen the window of one stream; raises Broken when it gets too wide."""
        stream.opened += step
        if self._stream_window + stream.opened > frames.LARGEST_WINDOW:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR)
        if stream.number in self._blocked:
            self._send_some(stream)

    # Answers.

    def answer(self, stream: Stream, reply: Response) -> None:
        """Send an answer, or as much of it as fits."""
        number = stream.number
        if not reply.body:
            self._send_block(number, reply.head, frames.END_STREAM)
            self._done(stream)
            return
        size = len(reply.body)
        self._send_block(number, reply.head, 0)
        if size <= self._frame_size and size <= self._window and size <= self._stream_window + stream.opened:
            self._window -= size
            self.send(frames.DATA, 0, number, reply.body)
            self._send_block(number, reply.trailers, frames.END_STREAM)
            self._done(stream)
        else:
            stream.unsent, stream.trailers = memoryview(reply.body), reply.trailers
            self._blocked[number] = stream
            UNREAD_RESPONSES.grow(stream.peer, size)
            self._send_some(stream)

    def drop(self, number: int) -> None:
        """Send nothing more of an answer; the client has given it up."""
        stream = self._blocked.pop(number, None)
        if stream is not None:
            UNREAD_RESPONSES.grow(stream.peer, -len(stream.unsent))

    def pause(self) -> None:
        """Send nothing but short answers until `resume`: the client has left much unread."""
        self._paused = True

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._transport.resume_reading()
        self.send_blocked()

    def send_blocked(self) -> None:
        """Send what fits by now, a piece for each client before another piece for any."""
        moving = True
        while moving and self._blocked and self._window > 0 and self._room > 0 and not self._paused:
            moving = False
            served = set()
            for stream in list(self._blocked.values()):
                if stream.peer not in served and self._send_some(stream):
                    served.add(stream.peer)
                    moving = True

    def _send_some(self, stream: Stream) -> bool:
        """Send a piece of an answer; answers whether any of it could be sent."""
        most = min(self._window, self._stream_window + stream.opened, self._room, _PIECE)
        if most <= 0 or self._paused:
            return False
        sent = stream.unsent[:most]
        stream.unsent = stream.unsent[most:]
        size = len(sent)
        self._window -= size
        stream.opened -= size
        self._room -= size
        for at in range(0, size, self._frame_size):
            self.send(frames.DATA, 0, stream.number, bytes(sent[at : at + self._frame_size]))
        if not stream.unsent:
            del self._blocked[stream.number]
            self._send_block(stream.number, stream.trailers, frames.END_STREAM)
            self._done(stream)
        UNREAD_RESPONSES.grow(stream.peer, -size)
        return True

    # Frames.

    def reset(self, number: int, code: int) -> None:
        """End a stream, for a reason."""
        self.send(frames.RST_STREAM, 0, number, frames.NUMBER.pack(code))

    def go_away(self, last: int, code: int) -> None:
        """Tell the client not to send more requests on this connection, and which was the last to be answered."""
        self.send(frames.GOAWAY, 0, 0, frames.NUMBER.pack(last) + frames.NUMBER.pack(code))

    def send(self, kind: int, flags: int, number: int, payload: bytes = b"") -> None:
        """Send one frame with the turn's others."""
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(frames.frame(kind, flags, number, payload))

    def flush(self) -> None:
        """Write what was collected."""
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
            if self._paused and self._transport.get_write_buffer_size() > _MOST_UNREAD:
                self._transport.pause_reading()
        self._out.clear()
        if self._room < _MOST_AT_ONCE:
            self._room = _MOST_AT_ONCE
            if self._blocked and not self._paused:
                self._loop.call_soon(self.send_blocked)

    def _send_block(self, number: int, block: bytes, flags: int) -> None:
        if self._resize:
            block, self._resize = self._resize + block, b""
        first, rest = block[: self._frame_size], block[self._frame_size :]
        self.send(frames.HEADERS, flags if rest else flags | frames.END_HEADERS, number, first)
        while rest:
            first, rest = rest[: self._frame_size], rest[self._frame_size :]
            self.send(frames.CONTINUATION, 0 if rest else frames.END_HEADERS, number, first)
