"""The batcher of a lane: sends the lane's events in batches, in order.

While a batch is in flight, the next one collects events. It is sent when the verdicts of the first have arrived, or
earlier when it has grown large or the verdicts are late. A lone event is sent at once: a timer would cost both latency
and throughput.
"""

import asyncio
import logging
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from services.contracts.event_batches import BatchedEvent, size
from services.events.ingest.limits import Limits
from services.kit.errors import ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

# After this fraction of the verdict wait the next batch is sent although the last one has no verdicts: executions is
# slow or down, the stream preserves the order, and the callers behind should not wait twice as long.
_VERDICT_WAIT_FRACTION = 0.25
# Turns of the event loop before a batch is sent: in the first the calls waiting in the sockets are read, in the second
# their tasks start, and those that have to wait for a turn reach their batchers in the third. That costs microseconds
# when there are none; under load it doubles the size of batches, and a batch costs NATS and both services more than a
# millisecond regardless of its size.
_EVENT_LOOP_TURNS = 3
# While executions is down or behind, a batch collects events for this long: callers wait in vain for verdicts anyway,
# and executions works off the backlog batch by batch. Batches of one or two events, each with a commit on a slow disk,
# would arrive faster than they are applied.
_COLLECT_SECONDS = 0.1
# While this many events wait, the next batch is sent although one is in flight: executions then finds it when it is
# done, and a larger batch would make an event hardly cheaper.
SEND_AHEAD_EVENTS = 32
_OK = b""

WAITING = Gauge("flyteplane_event_lane_waiting", "Events that wait in a lane to be appended to the stream", ["lane"])
OLDEST = Gauge("flyteplane_event_lane_oldest_seconds", "Age of the oldest event that waits in a lane", ["lane"])
FULL = Counter("flyteplane_event_lane_full_total", "Events refused because their lane was full")
BATCH_EVENTS = Histogram(
    "flyteplane_event_batch_events", "Events in a batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BATCH_SECONDS = Histogram(
    "flyteplane_event_batch_seconds",
    "From sending a batch until its verdicts have arrived or the wait for them has ended",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A waiting event and the future of its verdict: a serialized Status, or Unavailable when it was not appended."""

    event: BatchedEvent
    since: float  # the event loop's time
    verdict: asyncio.Future[bytes]


def _fail(events: Iterable[_Waiting], message: str) -> None:
    """Raise Unavailable in the callers: their events are not in the stream and may be sent again."""
    for waiting in events:
        if not waiting.verdict.done():
            waiting.verdict.set_exception(Unavailable(message))


class BatchSender(Protocol):
    """What a batcher uses of the publisher: it sends batches to executions."""

    limits: Limits
    executions_keeps_up: bool
    """Whether executions returns verdicts in time. A batcher sets it to False when it could not send its next batch
    within its wait; verdicts of any batch set it to True."""

    async def send_batch(self, lane: int, events: Sequence[BatchedEvent]) -> asyncio.Future[tuple[bytes, ...]]:
        """Send a batch and return the future of its verdicts; raise Unavailable when it cannot be sent.

        The future is cancelled when the wait for verdicts is over and the batch is in the stream.
        """


class Batcher:
    """The batcher of one lane. Its task runs only while there are events to send."""

    def __init__(self, sender: BatchSender, lane: int) -> None:
        self._sender = sender
        self._lane = lane
        self._waiting: deque[_Waiting] = deque()
        self._waiting_by_execution: Tally[bytes] = Tally()  # by fingerprint
        self._sending: asyncio.Task[None] | None = None
        self._in_flight = 0  # batches without verdicts
        self._wakeup: asyncio.Future[None] | None = None  # `_send_all` waits for it
        # Evaluated when metrics are read, at no cost to an event.
        WAITING.labels(lane).set_function(lambda: len(self._waiting))
        OLDEST.labels(lane).set_function(self._oldest_age)

    async def record(self, event: BatchedEvent) -> bytes:
        """Send `event` with the next batch and return its verdict.

        Raises:
            ResourceExhausted: Too many events wait in the lane, or too many of the execution.
            Unavailable: The event is not in the stream.
        """
        if len(self._waiting) >= self._sender.limits.lane_length:
            FULL.inc()
            raise ResourceExhausted("too many events are waiting")
        if self._waiting_by_execution[event.fingerprint] >= self._sender.limits.execution_events:
            FULL.inc()
            raise ResourceExhausted("too many events of this execution are waiting")
        self._waiting_by_execution[event.fingerprint] += 1
        loop = asyncio.get_running_loop()
        waiting = _Waiting(event, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        elif len(self._waiting) in {SEND_AHEAD_EVENTS, self._sender.limits.batch_events}:
            self._wake()
        return await waiting.verdict

    async def drain(self) -> None:
        """Send all waiting events."""
        if self._sending is not None:
            await self._sending

    def _oldest_age(self) -> float:
        return asyncio.get_running_loop().time() - self._waiting[0].since if self._waiting else 0.0

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                for _ in range(_EVENT_LOOP_TURNS):
                    await asyncio.sleep(0)
                if batch := self._next_batch():
                    await self._send(batch)
        finally:
            self._sending = None

    def _next_batch(self) -> list[_Waiting]:
        """Remove the next batch from the queue: the events that fit and whose callers still wait.

        A caller that has gone has sent its event again to another replica, and perhaps others after it; sent from here,
        the event would overtake or follow them out of order.
        """
        limits = self._sender.limits
        batch: list[_Waiting] = []
        total = 0
        while self._waiting and len(batch) < limits.batch_events:
            if not self._waiting[0].verdict.done():
                total += self._size_in_batch(self._waiting[0])
                if batch and total > limits.batch_bytes:
                    break
                batch.append(self._waiting[0])
            self._uncount(self._waiting.popleft())
        return batch

    def _uncount(self, waiting: _Waiting) -> None:
        fingerprint = waiting.event.fingerprint
        self._waiting_by_execution[fingerprint] -= 1
        if not self._waiting_by_execution[fingerprint]:
            del self._waiting_by_execution[fingerprint]

    def _size_in_batch(self, waiting: _Waiting) -> int:
        """Return the bytes that the event takes in a batch; of a large one the batch has only the URI."""
        return 0 if self._sender.limits.is_large(waiting.event) else size([waiting.event])

    async def _send(self, batch: list[_Waiting]) -> None:
        seconds = self._sender.limits.verdict_wait
        began = asyncio.get_running_loop().time()
        BATCH_EVENTS.observe(len(batch))
        try:
            reply = await self._sender.send_batch(self._lane, [waiting.event for waiting in batch])
        except Unavailable as error:
            # The callers behind have waited through the same outage; their clients retry sooner than this loop could.
            _fail((*batch, *self._waiting), error.message)
            self._waiting.clear()
            self._waiting_by_execution.clear()
            return
        except Exception:
            log.exception("a batch of events could not be sent")
            _fail(batch, "the event could not be stored")
            return

        def finish(verdicts: asyncio.Future[tuple[bytes, ...]]) -> None:
            self._in_flight -= 1
            self._wake()
            BATCH_SECONDS.observe(asyncio.get_running_loop().time() - began)
            if not verdicts.cancelled() and (error := verdicts.exception()):
                _fail(batch, str(error))
                return
            # Without a verdict the event is in the stream and will be applied in order: OK is true.
            statuses = (_OK,) * len(batch) if verdicts.cancelled() else verdicts.result()
            for waiting, status in zip(batch, statuses, strict=True):
                if not waiting.verdict.done():
                    waiting.verdict.set_result(status)

        reply.add_done_callback(finish)
        self._in_flight += 1
        if self._sender.executions_keeps_up:
            self._sender.executions_keeps_up = await self._until(self._may_send, seconds * _VERDICT_WAIT_FRACTION)
        else:
            await self._until(self._has_collected, _COLLECT_SECONDS)

    def _may_send(self) -> bool:
        """Return whether no batch is in flight, or only one while many events wait."""
        return self._in_flight <= (1 if len(self._waiting) >= SEND_AHEAD_EVENTS else 0)

    def _has_collected(self) -> bool:
        """Return whether a full batch waits, or collecting is over because executions keeps up again."""
        return self._sender.executions_keeps_up or len(self._waiting) >= self._sender.limits.batch_events

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition` holds, at most `seconds`, and return whether it does."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        timer = loop.call_later(seconds, self._wake)
        while not (holds := condition()) and loop.time() < end:
            self._wakeup = loop.create_future()
            await self._wakeup
        timer.cancel()
        return holds

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
