"""The server's side of HTTP/2 (RFC 9113), as far as unary calls through a gateway need it.

One connection carries all calls of a gateway's worker, so that one system call brings many requests, and one takes all
answers that one turn of the event loop made. Requests are answered side by side, each by a task. What is answered is a
block of headers, or headers, a body and trailers (`responses`). There is no push and no priority.
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
from services.kit.http2.responses import MOST_LONG_UNREAD, Response, ResponseWriter, Stream
from services.kit.rpc.fairness import AS_A_WHOLE, FairBudget

# The gateway opens another connection when it has more calls at a time (CONCURRENT_STREAMS in gateway/clusters.py).
MOST_STREAMS = 1000
# The window for all requests together is no limit: it is opened again before a half of it is used.
_TOP_UP = 1 << 30

# Of headers that count as part of an unfinished request; calls of Flyte's clients have less.
_COUNTED_HEADER_BYTES = 4096
# How often within its time a request or a connection is looked at that has not moved.
_LOOKS = 2

Serve = Callable[[Headers, bytes | bytearray], Awaitable[Response]]


@dataclass(frozen=True)
class IncompleteRequests:
    """What requests that have not arrived may hold, how long they may rest, and what is answered to others."""

    shares: FairBudget
    seconds: float
    too_much: Response
    too_slow: Response


class Connection(asyncio.Protocol):
    """One connection. `serve` is given each request, or the beginning of one whose body is above `most` bytes.

    `serve` raises nothing; it is cancelled when its client gives up or goes. While it is open the connection is one of
    `among`.
    """

    def __init__(
        self, serve: Serve, most: int, known: HeaderFieldCache, among: "set[Connection]", unfinished: IncompleteRequests
    ) -> None:
        self._among = among
        self._unfinished = unfinished
        self._loop = asyncio.get_running_loop()
        self._serve = serve
        self._most = most
        self._blocks = HeaderDecoder(known)
        self._greeted = False
        self._rest = b""  # the beginning of a frame, or of the preface
        self._continued: tuple[int, int, bytes] | None = None  # stream, flags and headers so far
        self._streams: dict[int, Stream] = {}
        self._last = 0
        self._received = 0
        self._ended: asyncio.Future[None] | None = None  # since `end`
        self._look: asyncio.TimerHandle | None = None  # the next one
        self._seen: tuple[int, int] | None = None  # at the last look, of what is not a frame yet

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the client this side's limits."""
        self._among.add(self)
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport.set_write_buffer_limits(MOST_LONG_UNREAD)
        self._answers = ResponseWriter(self._transport, self._answered)
        settings = (
            (frames.HEADER_TABLE_SIZE, NO_TABLE),
            (frames.MAX_CONCURRENT_STREAMS, MOST_STREAMS),
            # A body that is too large is recognized before it waits for the window.
            (frames.INITIAL_WINDOW_SIZE, min(self._most + 1, frames.LARGEST_WINDOW)),
            (frames.MAX_HEADER_LIST_SIZE, MOST_HEADER_BYTES),
        )
        self._answers.send(frames.SETTINGS, 0, 0, b"".join(frames.SETTING.pack(*setting) for setting in settings))
        self._open_window(0, frames.LARGEST_WINDOW - frames.FIRST_WINDOW)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """Give up what nobody waits for any more."""
        self._among.discard(self)
        if self._look is not None:
            self._look.cancel()
        for number in list(self._streams):
            self._give_up(number)

    def data_received(self, data: bytes) -> None:
        """Take what has come, as far as frames are whole."""
        try:
            self._rest = self._take(self._rest + data if self._rest else data)
        except ProtocolError as broken:
            self._answers.go_away(self._last, broken.code)
            self._leave()
        if self._look is None and (self._streams or self._rest):
            self._look_later()

    def pause_writing(self) -> None:
        """Send nothing long to a client that does not read."""
        self._answers.pause()

    def resume_writing(self) -> None:
        """Go on; the client has read."""
        if not self._transport.is_closing():
            self._answers.resume()

    # What its front calls.

    def end(self) -> "asyncio.Future[None]":
        """Take no more requests: the client is told which ones will not be answered, and comes again elsewhere.

        What is returned is done when all others are answered.
        """
        self._ended = self._loop.create_future()
        self._answers.go_away(self._last, frames.NO_ERROR)
        self._notice_end()
        return self._ended

    async def close(self) -> None:
        """Cancel the calls still under way, and leave when they have answered and everything was written."""
        unfinished = []
        for number, stream in list(self._streams.items()):
            if stream.task is None:
                self._answers.reset(number, frames.REFUSED_STREAM)
                self._give_up(number)
            else:
                stream.task.cancel()
                unfinished.append(stream.task)
        await asyncio.gather(*unfinished, return_exceptions=True)
        self._leave()

    def _leave(self) -> None:
        self._answers.flush()
        self._transport.close()

    def _notice_end(self) -> None:
        if self._ended is not None and not self._streams and not self._ended.done():
            self._ended.set_result(None)

    # Reading.

    def _take(self, data: bytes) -> bytes:
        """Take the whole frames of `data`; answers what is left."""
        at = 0
        if not self._greeted:
            if not data.startswith(frames.PREFACE):
                if frames.PREFACE.startswith(data):
                    return data
                raise ProtocolError(frames.PROTOCOL_ERROR)
            self._greeted = True
            at = len(frames.PREFACE)
        end = len(data)
        while end - at >= frames.FRAME.size:
            high, low, kind, flags, number = frames.FRAME.unpack_from(data, at)
            size = high << 8 | low
            if size > frames.FRAME_SIZE:
                raise ProtocolError(frames.FRAME_SIZE_ERROR)
            begins = at + frames.FRAME.size
            if end - begins < size:
                break
            at = begins + size
            self._take_frame(kind, flags, number & frames.STREAM_BITS, data[begins:at])
        return data[at:]

    def _take_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._continued is not None and kind != frames.CONTINUATION:
            raise ProtocolError(frames.PROTOCOL_ERROR)
        if kind == frames.DATA:
            self._take_data(flags, number, payload)
        elif kind == frames.HEADERS:
            self._take_block(flags, number, frames.header_block(flags, payload))
        elif kind == frames.CONTINUATION:
            if self._continued is None or self._continued[0] != number:
                raise ProtocolError(frames.PROTOCOL_ERROR)
            _, first_flags, block = self._continued
            self._continued = None
            self._take_block(first_flags | flags & frames.END_HEADERS, number, block + payload)
        else:
            self._take_other(kind, flags, number, payload)

    def _take_block(self, flags: int, number: int, block: bytes) -> None:
        if len(block) > MOST_HEADER_BYTES:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM)
        if not flags & frames.END_HEADERS:
            self._continued = (number, flags, block)
            return
        try:
            headers = self._blocks.headers_of(block)
        except HeaderError as error:
            raise ProtocolError(frames.COMPRESSION_ERROR) from error
        if number % 2 == 0:
            raise ProtocolError(frames.PROTOCOL_ERROR)
        if number > self._last:
            if self._ended is None:
                self._open(flags, number, headers)
                if len(block) > _COUNTED_HEADER_BYTES and not flags & frames.END_STREAM and number in self._streams:
                    self._hold(self._streams[number], len(block))
        elif not flags & frames.END_STREAM:
            raise ProtocolError(frames.PROTOCOL_ERROR)
        elif (stream := self._streams.get(number)) is not None:
            # Trailers, which say nothing here but that the request is over.
            self._whole(stream)

    def _open(self, flags: int, number: int, headers: Headers) -> None:
        self._last = number
        if len(self._streams) >= MOST_STREAMS:
            self._answers.reset(number, frames.REFUSED_STREAM)
            return
        stream = self._streams[number] = Stream(number, headers)
        if flags & frames.END_STREAM:
            self._whole(stream)

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received > _TOP_UP:
            self._open_window(0, self._received)
            self._received = 0
        stream = self._streams.get(number)
        if stream is None:  # answered or given up meanwhile
            self._must_have_begun(number)
            return
        if stream.arrived:
            raise ProtocolError(frames.STREAM_CLOSED)
        if stream.task is None:
            if flags & frames.PADDED:
                size = len(payload)
                payload = frames.unpadded(payload)
                # The window is as large as the largest body; padding must not use it up.
                self._open_window(number, size - len(payload))
            _add(stream, payload)
        if flags & frames.END_STREAM:
            self._whole(stream)
        elif stream.task is None:
            if len(stream.body) > self._most:
                self._begin(stream)
            else:
                self._hold(stream, len(payload))

    def _whole(self, stream: Stream) -> None:
        if stream.arrived:
            raise ProtocolError(frames.STREAM_CLOSED)
        stream.arrived = True
        if stream.task is None:
            self._begin(stream)

    def _take_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != frames.FIXED_SIZES.get(kind, len(payload)):
            raise ProtocolError(frames.FRAME_SIZE_ERROR)
        if kind == frames.PUSH_PROMISE or (number and kind in frames.OF_THE_CONNECTION):
            raise ProtocolError(frames.PROTOCOL_ERROR)
        if kind == frames.WINDOW_UPDATE:
            self._take_window(number, frames.NUMBER.unpack(payload)[0] & frames.STREAM_BITS)
        elif kind == frames.RST_STREAM:
            self._must_have_begun(number)
            self._give_up(number)
        elif kind == frames.SETTINGS:
            self._take_settings(flags, payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self._answers.send(frames.PING, frames.ACK, 0, payload)

    def _take_window(self, number: int, step: int) -> None:
        if not step:
            raise ProtocolError(frames.PROTOCOL_ERROR)
        if not number:
            self._answers.open(step)
        elif (stream := self._streams.get(number)) is not None:
            self._answers.open_stream(stream, step)
        else:
            self._must_have_begun(number)

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % frames.SETTING.size or (flags & frames.ACK and payload):
            raise ProtocolError(frames.FRAME_SIZE_ERROR)
        if flags & frames.ACK:
            self._blocks.told()
            return
        for name, value in frames.SETTING.iter_unpack(payload):
            self._answers.set(name, value)
        self._answers.send(frames.SETTINGS, frames.ACK, 0)
        self._answers.send_blocked()

    def _must_have_begun(self, number: int) -> None:
        if not number or (number > self._last and self._ended is None):
            raise ProtocolError(frames.PROTOCOL_ERROR)

    # Requests that do not come to their end.

    def _hold(self, stream: Stream, size: int) -> None:
        if self._unfinished.shares.take((self, stream.peer), size):
            stream.held += size
        else:
            self._answers.answer(stream, self._unfinished.too_much)

    def _look_later(self) -> None:
        self._look = self._loop.call_later(self._unfinished.seconds / _LOOKS, self._look_for_stalled)

    def _look_for_stalled(self) -> None:
        """Refuse what has not moved since the last look, and what takes too long although it moves."""
        self._look = None
        for stream in list(self._streams.values()):
            if stream.arrived or stream.task is not None:
                continue
            size = len(stream.body)
            stream.looks += 1
            if size == stream.seen or stream.looks > _LOOKS * AS_A_WHOLE:
                self._answers.answer(stream, self._unfinished.too_slow)
            stream.seen = size
        broken_off = bool(self._rest or self._continued or not self._greeted)
        seen = len(self._rest), len(self._continued[2]) if self._continued else 0
        if broken_off and seen == self._seen:
            self._answers.go_away(self._last, frames.ENHANCE_YOUR_CALM)
            self._leave()
            return
        self._seen = seen if broken_off else None
        if self._streams or broken_off:
            self._look_later()

    # Answering.

    def _begin(self, stream: Stream) -> None:
        stream.task = self._loop.create_task(self._answer(stream))

    async def _answer(self, stream: Stream) -> None:
        reply = await self._serve(stream.headers, stream.body)
        if self._streams.get(stream.number) is stream:
            self._answers.answer(stream, reply)

    def _answered(self, stream: Stream) -> None:
        del self._streams[stream.number]
        if stream.held:
            self._release(stream)
        if not stream.arrived:
            # What is still on its way of the request is of no use (RFC 9113, 8.1).
            self._answers.reset(stream.number, frames.NO_ERROR)
        if self._ended is not None:
            self._notice_end()

    def _give_up(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._answers.drop(number)
            if stream.held:
                self._release(stream)
            if stream.task is not None:
                stream.task.cancel()
        self._notice_end()

    def _release(self, stream: Stream) -> None:
        self._unfinished.shares.give((self, stream.peer), stream.held)
        stream.held = 0

    def _open_window(self, number: int, step: int) -> None:
        self._answers.send(frames.WINDOW_UPDATE, 0, number, frames.NUMBER.pack(step))


def _add(stream: Stream, payload: bytes) -> None:
    """Nearly all bodies are one frame and stay what they are; in others every further frame would copy the whole."""
    if not stream.body:
        stream.body = payload
        return
    if isinstance(stream.body, bytes):
        stream.body = bytearray(stream.body)
    stream.body += payload
