"""The server side of an HTTP/2 connection (RFC 9113), as far as unary calls through a gateway need it.

One connection carries all calls of a gateway's worker: one system call reads many requests, and one writes all
responses of a turn of the event loop. Requests are served concurrently, each by a task. A response is headers, a body
and trailers, or headers alone (`responses`). There is no push and no priority.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from services.kit.http2 import frames
from services.kit.http2.frames import ProtocolError
from services.kit.http2.headers import (
    MOST_HEADER_BYTES,
    NO_TABLE,
    HeaderDecoder,
    HeaderError,
    HeaderFieldCache,
    Headers,
)
from services.kit.http2.responses import WRITE_HIGH_WATER_BYTES, Response, ResponseWriter, Stream
from services.kit.rpc.fairness import TOTAL_TIME_FACTOR, FairBudget

# The gateway opens another connection when it has more concurrent calls (CONCURRENT_STREAMS in gateway/clusters.py).
MOST_STREAMS = 1000
# The window of the connection is no limit: it is enlarged again when half of it is used.
_WINDOW_UPDATE_BYTES = 1 << 30

# A larger header block counts as bytes of an incomplete request; those of Flyte's clients are smaller.
_COUNTED_HEADER_BYTES = 4096
# How often an incomplete request or frame is checked within `IncompleteRequests.seconds`.
_CHECKS = 2

Serve = Callable[[Headers, bytes | bytearray], Awaitable[Response]]


@dataclass(frozen=True)
class IncompleteRequests:
    """Limits of incomplete requests, and the responses to those that exceed them.

    Attributes:
        budget: bytes that they may hold.
        seconds: how long one may wait for its next bytes; progress is checked twice within it, so that one is refused
            after half of it at the earliest.
        too_much: the response to a request outside of the budget.
        too_slow: the response to a request that received nothing for so long, or took too long in total.
    """

    budget: FairBudget
    seconds: float
    too_much: Response
    too_slow: Response


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        serve: returns the response to a request; it raises nothing and is cancelled when the client resets the stream
            or disconnects. Of a body that is too large it receives the beginning.
        max_body_bytes: size of the largest body.
        header_fields: the server's cache.
        connections: the server's open connections; this one is in it while it is open.
        incomplete: limits of incomplete requests.
    """

    def __init__(
        self,
        serve: Serve,
        max_body_bytes: int,
        header_fields: HeaderFieldCache,
        connections: "set[Connection]",
        incomplete: IncompleteRequests,
    ) -> None:
        self._connections = connections
        self._incomplete = incomplete
        self._loop = asyncio.get_running_loop()
        self._serve = serve
        self._max_body_bytes = max_body_bytes
        self._header_decoder = HeaderDecoder(header_fields)
        self._preface_received = False
        self._unparsed = b""  # the received part of a frame, or of the preface
        self._open_block: tuple[int, int, bytes] | None = None  # stream, flags and block so far
        self._streams: dict[int, Stream] = {}
        self._last_stream_id = 0
        self._received_bytes = 0
        self._drained: asyncio.Future[None] | None = None  # set by `drain`
        self._check_timer: asyncio.TimerHandle | None = None
        self._unparsed_at_check: tuple[int, int] | None = None  # bytes of the incomplete frame and block

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the server's settings."""
        self._connections.add(self)
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class has the same methods
        self._transport.set_write_buffer_limits(WRITE_HIGH_WATER_BYTES)
        self._writer = ResponseWriter(self._transport, self._on_response_sent)
        settings = (
            (frames.HEADER_TABLE_SIZE, NO_TABLE),
            (frames.MAX_CONCURRENT_STREAMS, MOST_STREAMS),
            # One byte more than the largest body: a larger one is refused before its sender waits for the window.
            (frames.INITIAL_WINDOW_SIZE, min(self._max_body_bytes + 1, frames.LARGEST_WINDOW)),
            (frames.MAX_HEADER_LIST_SIZE, MOST_HEADER_BYTES),
        )
        self._writer.send(frames.SETTINGS, 0, 0, b"".join(frames.SETTING.pack(*setting) for setting in settings))
        self._send_window_update(0, frames.LARGEST_WINDOW - frames.INITIAL_WINDOW)
        self._schedule_check()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """Cancel all calls of the connection."""
        self._connections.discard(self)
        if self._check_timer is not None:
            self._check_timer.cancel()
        for stream_id in list(self._streams):
            self._drop_stream(stream_id)

    def data_received(self, data: bytes) -> None:
        """Process the complete frames received so far."""
        try:
            self._unparsed = self._parse(self._unparsed + data if self._unparsed else data)
        except ProtocolError as error:
            self._writer.go_away(self._last_stream_id, error.code)
            self._close_transport()
        if self._check_timer is None and (self._streams or self._unparsed):
            self._schedule_check()

    def pause_writing(self) -> None:
        """Send no long responses: the client does not read."""
        self._writer.pause()

    def resume_writing(self) -> None:
        """Send long responses again: the client has read."""
        if not self._transport.is_closing():
            self._writer.resume()

    # Called by the server.

    def drain(self) -> "asyncio.Future[None]":
        """Refuse further requests, by GOAWAY; the client sends them to another server.

        Returns:
            A future that is done when all earlier requests have their response.
        """
        self._drained = self._loop.create_future()
        self._writer.go_away(self._last_stream_id, frames.NO_ERROR)
        self._check_drained()
        return self._drained

    async def close(self) -> None:
        """Cancel the calls under way, and close the transport when their responses are written."""
        cancelled = []
        for stream_id, stream in list(self._streams.items()):
            if stream.task is None:
                self._writer.reset(stream_id, frames.REFUSED_STREAM)
                self._drop_stream(stream_id)
            else:
                if not stream.task.cancelling():
                    stream.task.cancel()
                cancelled.append(stream.task)
        await asyncio.gather(*cancelled, return_exceptions=True)
        self._close_transport()

    def _close_transport(self) -> None:
        self._writer.flush()
        self._transport.close()

    def _check_drained(self) -> None:
        if self._drained is not None and not self._streams and not self._drained.done():
            self._drained.set_result(None)

    # Reading.

    def _parse(self, data: bytes) -> bytes:
        """Process the complete frames of `data`; return the rest."""
        at = 0
        if not self._preface_received:
            if not data.startswith(frames.PREFACE):
                if frames.PREFACE.startswith(data):
                    return data
                raise ProtocolError(frames.PROTOCOL_ERROR)
            self._preface_received = True
            at = len(frames.PREFACE)
        end = len(data)
        while end - at >= frames.FRAME.size:
            high, low, frame_type, flags, stream_id = frames.FRAME.unpack_from(data, at)
            size = high << 8 | low
            if size > frames.FRAME_SIZE:
                raise ProtocolError(frames.FRAME_SIZE_ERROR)
            start = at + frames.FRAME.size
            if end - start < size:
                break
            at = start + size
            self._on_frame(frame_type, flags, stream_id & frames.STREAM_BITS, data[start:at])
        return data[at:]

    def _on_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._open_block is not None and frame_type != frames.CONTINUATION:
            raise ProtocolError(frames.PROTOCOL_ERROR)
        if frame_type == frames.DATA:
            self._on_data(flags, stream_id, payload)
        elif frame_type == frames.HEADERS:
            self._on_header_block(flags, stream_id, frames.header_block(flags, payload))
        elif frame_type == frames.CONTINUATION:
            if self._open_block is None or self._open_block[0] != stream_id:
                raise ProtocolError(frames.PROTOCOL_ERROR)
            _, first_flags, block = self._open_block
            self._open_block = None
            self._on_header_block(first_flags | flags & frames.END_HEADERS, stream_id, block + payload)
        else:
            self._on_other_frame(frame_type, flags, stream_id, payload)

    def _on_header_block(self, flags: int, stream_id: int, block: bytes) -> None:
        if len(block) > MOST_HEADER_BYTES:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM)
        if not flags & frames.END_HEADERS:
            self._open_block = (stream_id, flags, block)
            return
        try:
            headers = self._header_decoder.headers_of(block)
        except HeaderError as error:
            raise ProtocolError(frames.COMPRESSION_ERROR) from error
        if stream_id % 2 == 0:
            raise ProtocolError(frames.PROTOCOL_ERROR)
        if stream_id > self._last_stream_id:
            if self._drained is None:
                self._open_stream(flags, stream_id, headers)
                if len(block) > _COUNTED_HEADER_BYTES and not flags & frames.END_STREAM and stream_id in self._streams:
                    self._reserve(self._streams[stream_id], len(block))
        elif not flags & frames.END_STREAM:
            raise ProtocolError(frames.PROTOCOL_ERROR)
        elif (stream := self._streams.get(stream_id)) is not None:
            # Trailers; only the end of the request matters.
            self._on_request_complete(stream)

    def _open_stream(self, flags: int, stream_id: int, headers: Headers) -> None:
        self._last_stream_id = stream_id
        if len(self._streams) >= MOST_STREAMS:
            self._writer.reset(stream_id, frames.REFUSED_STREAM)
            return
        stream = self._streams[stream_id] = Stream(stream_id, headers)
        if flags & frames.END_STREAM:
            self._on_request_complete(stream)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._received_bytes += len(payload)
        if self._received_bytes > _WINDOW_UPDATE_BYTES:
            self._send_window_update(0, self._received_bytes)
            self._received_bytes = 0
        stream = self._streams.get(stream_id)
        if stream is None:  # it has its response, or was reset
            self._check_stream_known(stream_id)
            return
        if stream.complete:
            raise ProtocolError(frames.STREAM_CLOSED)
        if stream.task is None:
            if flags & frames.PADDED:
                size = len(payload)
                payload = frames.strip_padding(payload)
                # The window has the size of the largest body; padding must not use it up.
                self._send_window_update(stream_id, size - len(payload))
            _append(stream, payload)
        if flags & frames.END_STREAM:
            self._on_request_complete(stream)
        elif stream.task is None:
            if len(stream.body) > self._max_body_bytes:
                self._start(stream)
            else:
                self._reserve(stream, len(payload))

    def _on_request_complete(self, stream: Stream) -> None:
        if stream.complete:
            raise ProtocolError(frames.STREAM_CLOSED)
        stream.complete = True
        if stream.task is None:
            self._start(stream)

    def _on_other_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != frames.FIXED_SIZES.get(frame_type, len(payload)):
            raise ProtocolError(frames.FRAME_SIZE_ERROR)
        if frame_type == frames.PUSH_PROMISE or (stream_id and frame_type in frames.OF_THE_CONNECTION):
            raise ProtocolError(frames.PROTOCOL_ERROR)
        if frame_type == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, frames.UINT32.unpack(payload)[0] & frames.STREAM_BITS)
        elif frame_type == frames.RST_STREAM:
            self._check_stream_known(stream_id)
            self._drop_stream(stream_id)
        elif frame_type == frames.SETTINGS:
            self._on_settings(flags, payload)
        elif frame_type == frames.PING and not flags & frames.ACK:
            self._writer.send(frames.PING, frames.ACK, 0, payload)

    def _on_window_update(self, stream_id: int, increment: int) -> None:
        if not increment:
            raise ProtocolError(frames.PROTOCOL_ERROR)
        if not stream_id:
            self._writer.increment_window(increment)
        elif (stream := self._streams.get(stream_id)) is not None:
            self._writer.increment_stream_window(stream, increment)
        else:
            self._check_stream_known(stream_id)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % frames.SETTING.size or (flags & frames.ACK and payload):
            raise ProtocolError(frames.FRAME_SIZE_ERROR)
        if flags & frames.ACK:
            self._header_decoder.settings_acknowledged()
            return
        for name, value in frames.SETTING.iter_unpack(payload):
            self._writer.apply_setting(name, value)
        self._writer.send(frames.SETTINGS, frames.ACK, 0)
        self._writer.send_blocked()

    def _check_stream_known(self, stream_id: int) -> None:
        if not stream_id or (stream_id > self._last_stream_id and self._drained is None):
            raise ProtocolError(frames.PROTOCOL_ERROR)

    # Incomplete requests.

    def _reserve(self, stream: Stream, size: int) -> None:
        # With the connection itself: another gateway may use the same id for a client connection of its own.
        if self._incomplete.budget.acquire((self, stream.client_connection), size):
            stream.reserved_bytes += size
        else:
            self._writer.respond(stream, self._incomplete.too_much)

    def _schedule_check(self) -> None:
        self._check_timer = self._loop.call_later(self._incomplete.seconds / _CHECKS, self._refuse_stalled)

    def _refuse_stalled(self) -> None:
        """Refuse requests that received nothing since the last check, and those that take too long in total."""
        self._check_timer = None
        for stream in list(self._streams.values()):
            if stream.complete or stream.task is not None:
                continue
            size = len(stream.body)
            stream.checks += 1
            if size == stream.bytes_at_check or stream.checks > _CHECKS * TOTAL_TIME_FACTOR:
                self._writer.respond(stream, self._incomplete.too_slow)
            stream.bytes_at_check = size
        incomplete = bool(self._unparsed or self._open_block or not self._preface_received)
        unparsed = len(self._unparsed), len(self._open_block[2]) if self._open_block else 0
        if incomplete and unparsed == self._unparsed_at_check:
            self._writer.go_away(self._last_stream_id, frames.ENHANCE_YOUR_CALM)
            self._close_transport()
            return
        self._unparsed_at_check = unparsed if incomplete else None
        if self._streams or incomplete:
            self._schedule_check()

    # Responses.

    def _start(self, stream: Stream) -> None:
        stream.task = self._loop.create_task(self._respond(stream))

    async def _respond(self, stream: Stream) -> None:
        served = self._serve(stream.headers, stream.body)
        stream.body = b""  # so that `served` has the only reference, and frees it when the message is parsed
        response = await served
        if self._streams.get(stream.id) is stream:
            self._writer.respond(stream, response)

    def _on_response_sent(self, stream: Stream) -> None:
        del self._streams[stream.id]
        if stream.reserved_bytes:
            self._release(stream)
        if not stream.complete:
            # The rest of the request is not needed (RFC 9113, 8.1).
            self._writer.reset(stream.id, frames.NO_ERROR)
        if self._drained is not None:
            self._check_drained()

    def _drop_stream(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._writer.drop(stream_id)
            if stream.reserved_bytes:
                self._release(stream)
            # Once: a client resets the stream at the deadline, too, and psycopg, cancelled again while it ends the
            # statement on the server, would close its connection and leave the server at work.
            if stream.task is not None and not stream.task.cancelling():
                stream.task.cancel()
        self._check_drained()

    def _release(self, stream: Stream) -> None:
        self._incomplete.budget.release((self, stream.client_connection), stream.reserved_bytes)
        stream.reserved_bytes = 0

    def _send_window_update(self, stream_id: int, increment: int) -> None:
        self._writer.send(frames.WINDOW_UPDATE, 0, stream_id, frames.UINT32.pack(increment))


def _append(stream: Stream, payload: bytes) -> None:
    # Nearly all bodies are one DATA frame and stay bytes; of longer ones, bytes would be copied with every frame.
    if not stream.body:
        stream.body = payload
        return
    if isinstance(stream.body, bytes):
        stream.body = bytearray(stream.body)
    stream.body += payload
