"""The writing side of an HTTP/2 connection: frames, and responses as the client's windows allow.

Frames are collected during a turn of the event loop and written together.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from services.kit.http2 import frames
from services.kit.http2.frames import ProtocolError
from services.kit.http2.headers import FIRST_TABLE, TABLE_EMPTIED, Headers
from services.kit.rpc.fairness import CONNECTION_HEADER, UNREAD_RESPONSES

# asyncio's high-water mark: above it long responses wait here, and short ones are still sent.
WRITE_HIGH_WATER_BYTES = 1 << 20
# With this much unwritten nothing more is read from the client until it has read.
_MOST_UNWRITTEN_BYTES = 2 * WRITE_HIGH_WATER_BYTES
# Bytes of long responses per turn of the event loop.
_TURN_BYTES = 1 << 20
# Bytes of one response that are sent before a piece of another client's.
_PIECE_BYTES = 1 << 18


class Response(NamedTuple):
    """Encoded headers, the body, and encoded trailers; without a body there are no trailers either."""

    head: bytes
    body: bytes = b""
    trailers: bytes = b""


@dataclass(slots=True, eq=False)
class Stream:
    """A request whose response is not completely sent."""

    id: int
    headers: Headers
    body: bytes | bytearray = b""
    complete: bool = False  # the client has sent the whole request
    reserved_bytes: int = 0  # in the budget of incomplete requests
    checks: int = 0  # for progress, until the request is complete
    bytes_at_check: int = -1  # of the body, at the last check
    task: "asyncio.Task[None] | None" = None
    window_credit: int = 0  # its window minus the initial size of all streams' windows
    unsent: bytes | memoryview = b""  # of a body that did not fit into the windows at once
    trailers: bytes = b""  # that follow `unsent`

    @property
    def client_connection(self) -> str:
        """The client connection that sent the request; a connection of the gateway carries those of many."""
        return self.headers.get(CONNECTION_HEADER, "")


class ResponseWriter:
    """Writes the frames of one connection; calls `done` for each stream when its response is sent."""

    def __init__(self, transport: asyncio.Transport, done: Callable[[Stream], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._done = done
        self._frames: list[bytes] = []
        self._blocked: dict[int, Stream] = {}  # whose responses wait for a window, the oldest first
        self._window = frames.INITIAL_WINDOW  # of the connection
        self._stream_window = frames.INITIAL_WINDOW  # the initial one of each stream
        self._frame_size = frames.FRAME_SIZE
        self._table_size_update = b""
        self._turn_bytes_left = _TURN_BYTES
        self._paused = False

    # Settings and windows of the client.

    def apply_setting(self, name: int, value: int) -> None:
        """Apply a setting of the client; raise ProtocolError for an invalid value."""
        if name == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                raise ProtocolError(frames.FLOW_CONTROL_ERROR)
            self._stream_window = value
        elif name == frames.MAX_FRAME_SIZE:
            if not frames.FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                raise ProtocolError(frames.PROTOCOL_ERROR)
            self._frame_size = value
        elif name == frames.HEADER_TABLE_SIZE and value < FIRST_TABLE:
            # The change must be signalled although the server's blocks never use the table (RFC 7541, 4.2).
            self._table_size_update = TABLE_EMPTIED

    def increment_window(self, increment: int) -> None:
        """Enlarge the window of the connection; raise ProtocolError above the limit."""
        self._window += increment
        if self._window > frames.LARGEST_WINDOW:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR)
        self.send_blocked()

    def increment_stream_window(self, stream: Stream, increment: int) -> None:
        """Enlarge the window of one stream; raise ProtocolError above the limit."""
        stream.window_credit += increment
        if self._stream_window + stream.window_credit > frames.LARGEST_WINDOW:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR)
        if stream.id in self._blocked:
            self._send_some(stream)

    # Responses.

    def respond(self, stream: Stream, response: Response) -> None:
        """Send a response, or as much of it as fits into the windows; the rest follows when they are larger."""
        stream_id = stream.id
        if not response.body:
            self._send_block(stream_id, response.head, frames.END_STREAM)
            self._done(stream)
            return
        size = len(response.body)
        self._send_block(stream_id, response.head, 0)
        if size <= self._frame_size and size <= self._window and size <= self._stream_window + stream.window_credit:
            self._window -= size
            self.send(frames.DATA, 0, stream_id, response.body)
            self._send_block(stream_id, response.trailers, frames.END_STREAM)
            self._done(stream)
        else:
            stream.unsent, stream.trailers = memoryview(response.body), response.trailers
            self._blocked[stream_id] = stream
            UNREAD_RESPONSES.add(stream.client_connection, size)
            self._send_some(stream)

    def drop(self, stream_id: int) -> None:
        """Drop the rest of a response: the client has reset the stream."""
        stream = self._blocked.pop(stream_id, None)
        if stream is not None:
            UNREAD_RESPONSES.add(stream.client_connection, -len(stream.unsent))

    def pause(self) -> None:
        """Send only short responses until `resume`: much is unwritten, as the client does not read."""
        self._paused = True

    def resume(self) -> None:
        """Send long responses again."""
        self._paused = False
        self._transport.resume_reading()
        self.send_blocked()

    def send_blocked(self) -> None:
        """Send what fits into the windows, one piece for each client connection in turn."""
        progress = True
        while progress and self._blocked and self._window > 0 and self._turn_bytes_left > 0 and not self._paused:
            progress = False
            served = set()
            for stream in list(self._blocked.values()):
                if stream.client_connection not in served and self._send_some(stream):
                    served.add(stream.client_connection)
                    progress = True

    def _send_some(self, stream: Stream) -> bool:
        """Send a piece of a blocked response; return whether any byte could be sent."""
        most = min(self._window, self._stream_window + stream.window_credit, self._turn_bytes_left, _PIECE_BYTES)
        if most <= 0 or self._paused:
            return False
        sent = stream.unsent[:most]
        stream.unsent = stream.unsent[most:]
        size = len(sent)
        self._window -= size
        stream.window_credit -= size
        self._turn_bytes_left -= size
        for at in range(0, size, self._frame_size):
            self.send(frames.DATA, 0, stream.id, bytes(sent[at : at + self._frame_size]))
        if not stream.unsent:
            del self._blocked[stream.id]
            self._send_block(stream.id, stream.trailers, frames.END_STREAM)
            self._done(stream)
        UNREAD_RESPONSES.add(stream.client_connection, -size)
        return True

    # Frames.

    def reset(self, stream_id: int, code: int) -> None:
        """End a stream with an error code."""
        self.send(frames.RST_STREAM, 0, stream_id, frames.UINT32.pack(code))

    def go_away(self, last_stream_id: int, code: int) -> None:
        """Send GOAWAY: the client must send no further requests here; those after that stream are not served."""
        self.send(frames.GOAWAY, 0, 0, frames.UINT32.pack(last_stream_id) + frames.UINT32.pack(code))

    def send(self, frame_type: int, flags: int, stream_id: int, payload: bytes = b"") -> None:
        """Queue one frame; it is written at the end of the event loop's turn."""
        if not self._frames:
            self._loop.call_soon(self.flush)
        self._frames.append(frames.frame(frame_type, flags, stream_id, payload))

    def flush(self) -> None:
        """Write the queued frames."""
        if self._frames and not self._transport.is_closing():
            self._transport.write(b"".join(self._frames))
            if self._paused and self._transport.get_write_buffer_size() > _MOST_UNWRITTEN_BYTES:
                self._transport.pause_reading()
        self._frames.clear()
        if self._turn_bytes_left < _TURN_BYTES:
            self._turn_bytes_left = _TURN_BYTES
            if self._blocked and not self._paused:
                self._loop.call_soon(self.send_blocked)

    def _send_block(self, stream_id: int, block: bytes, flags: int) -> None:
        if self._table_size_update:
            block, self._table_size_update = self._table_size_update + block, b""
        first, rest = block[: self._frame_size], block[self._frame_size :]
        self.send(frames.HEADERS, flags if rest else flags | frames.END_HEADERS, stream_id, first)
        while rest:
            first, rest = rest[: self._frame_size], rest[self._frame_size :]
            self.send(frames.CONTINUATION, 0 if rest else frames.END_HEADERS, stream_id, first)
