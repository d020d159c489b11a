"""One lane: what waits in it leaves in batches, in order (architecture, section 3).

It batches naturally: while a batch is on its way the next one collects, and leaves when the verdicts of the first are
in, or earlier when it has grown large. A lone event waits for nobody. A timer would cost both latency and throughput
(architecture, section 4).
"""

import asyncio
import logging
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from prometheus_client import Counter, Gauge, Histogram

from services.contracts.event_batches import BatchedEvent, size
from services.events.config import Settings
from services.kit.errors import ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

# After this part of the verdict wait the next batch leaves although the verdicts of the last are not in: executions is
# slow or away, the order is safe in the stream, and whoever waits behind should not wait twice as long.
_PATIENCE = 0.25
# Turns of the event loop before a batch leaves: in the first the calls that wait in the sockets are read, in the next
# they reach their lanes. That costs microseconds when there are none; under load it doubles a batch, and a batch costs
# NATS and both services more than a millisecond whatever is in it.
_TURNS = 3
# While executions is away or behind, a batch collects for this long before it leaves: callers wait in vain for verdicts
# then, and what piles up on file is worked off a batch at a time. Batches of one or two events, each with a commit on a
# slow disk, would come in faster than they go.
_COLLECT_SECONDS = 0.1
# With so many waiting the next batch leaves although one is on its way: executions then finds it when it is done, and
# a batch of that size costs an event hardly more than a larger one.
AHEAD = 32
_OK = b""

WAITING = Gauge("flyteplane_event_lane_waiting", "Events that wait in a lane to be put on file", ["lane"])
OLDEST = Gauge("flyteplane_event_lane_oldest_seconds", "Age of the oldest event that waits in a lane", ["lane"])
FULL = Counter("flyteplane_event_lane_full_total", "Events refused because their lane was full")
BATCH_EVENTS = Histogram(
    "flyteplane_event_batch_events", "Events in a batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BATCH_SECONDS = Histogram(
    "flyteplane_event_batch_seconds",
    "From a batch leaving its lane until its verdicts are in, or nobody waits for them any more",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


@dataclass(frozen=True)
class Limits:
    """How long callers wait and how much a lane and a batch hold; seconds and bytes (see the settings)."""

    verdict_wait: float
    append_wait: float
    lane_length: int
    execution_events: int
    batch_events: int
    batch_bytes: int
    large_event_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take them from the settings."""
        return cls(
            verdict_wait=settings.verdict_wait_seconds,
            append_wait=settings.append_wait_seconds,
            lane_length=settings.lane_length,
            execution_events=settings.execution_events,
            batch_events=settings.batch_events,
            batch_bytes=settings.batch_bytes,
            large_event_bytes=settings.large_event_bytes,
        )


@dataclass(slots=True, eq=False)
class _Waiting:
    """An event and the caller who waits for its verdict: a serialized Status, or a failure to put it on file."""

    event: BatchedEvent
    since: float  # the event loop's time
    verdict: asyncio.Future[bytes]


def _fail(events: Iterable[_Waiting], message: str) -> None:
    """Tell callers that their events are not on file and may be sent again."""
    for waiting in events:
        if not waiting.verdict.done():
            waiting.verdict.set_exception(Unavailable(message))


class Sender(Protocol):
    """What a lane needs to know of whoever puts its batches on file."""

    limits: Limits
    answered: bool
    """Whether executions answered when it was last waited for."""

    async def send(self, lane: int, events: Sequence[BatchedEvent]) -> asyncio.Future[tuple[bytes, ...]]:
        """Append a batch; answers the future of its verdicts once it is on file. Raises Unavailable."""


class Batcher:
    """One lane. Its loop runs only while there is something to send."""

    def __init__(self, sender: Sender, number: int) -> None:
        self._sender = sender
        self._number = number
        self._waiting: deque[_Waiting] = deque()
        self._of_execution: Tally[bytes] = Tally()
        self._loop: asyncio.Task[None] | None = None
        self._unanswered = 0  # batches on their way
        self._go_on: asyncio.Future[None] | None = None  # the loop waits for it
        # Looked at when somebody asks for metrics, at no cost to an event.
        WAITING.labels(number).set_function(lambda: len(self._waiting))
        OLDEST.labels(number).set_function(self._oldest)

    async def take(self, event: BatchedEvent) -> bytes:
        """Send the event with the next batch; answers its verdict. Raises ResourceExhausted, Unavailable."""
        if len(self._waiting) >= self._sender.limits.lane_length:
            FULL.inc()
            raise ResourceExhausted("too many events are waiting")
        if self._of_execution[event.mark] >= self._sender.limits.execution_events:
            FULL.inc()
            raise ResourceExhausted("too many events of this execution are waiting")
        self._of_execution[event.mark] += 1
        loop = asyncio.get_running_loop()
        waiting = _Waiting(event, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        if self._loop is None:
            self._loop = asyncio.create_task(self._send_all())
        elif len(self._waiting) in {AHEAD, self._sender.limits.batch_events}:
            self._wake()
        return await waiting.verdict

    async def drain(self) -> None:
        """Send what waits."""
        if self._loop is not None:
            await self._loop

    def _oldest(self) -> float:
        return asyncio.get_running_loop().time() - self._waiting[0].since if self._waiting else 0.0

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                if batch := self._next_batch():
                    await self._send(batch)
        finally:
            self._loop = None

    def _next_batch(self) -> list[_Waiting]:
        """What fits, of those whose callers still wait; nothing when nobody does.

        Who has gone has sent the event again elsewhere, and perhaps others after it, which it must not overtake.
        """
        limits = self._sender.limits
        batch: list[_Waiting] = []
        total = 0
        while self._waiting and len(batch) < limits.batch_events:
            if not self._waiting[0].verdict.done():
                total += self._carried(self._waiting[0])
                if batch and total > limits.batch_bytes:
                    break
                batch.append(self._waiting[0])
            self._left(self._waiting.popleft())
        return batch

    def _left(self, waiting: _Waiting) -> None:
        mark = waiting.event.mark
        self._of_execution[mark] -= 1
        if not self._of_execution[mark]:
            del self._of_execution[mark]

    def _carried(self, waiting: _Waiting) -> int:
        """Bytes that the event takes in a batch; a large one leaves only its reference there."""
        taken = size([waiting.event])
        return 0 if taken > self._sender.limits.large_event_bytes else taken

    async def _send(self, batch: list[_Waiting]) -> None:
        limits = self._sender.limits
        began = asyncio.get_running_loop().time()
        BATCH_EVENTS.observe(len(batch))
        try:
            answer = await self._sender.send(self._number, [waiting.event for waiting in batch])
        except Unavailable as failed:
            # Whoever queued up behind has waited through the same outage; their clients retry sooner than we could.
            _fail((*batch, *self._waiting), failed.message)
            self._waiting.clear()
            self._of_execution.clear()
            return
        except Exception:
            log.exception("a batch of events could not be sent")
            _fail(batch, "the event could not be put on file")
            return
        timer = asyncio.get_running_loop().call_later(limits.verdict_wait, answer.cancel)

        def tell(answered: asyncio.Future[tuple[bytes, ...]]) -> None:
            timer.cancel()
            self._unanswered -= 1
            self._wake()
            BATCH_SECONDS.observe(asyncio.get_running_loop().time() - began)
            if not answered.cancelled() and (failed := answered.exception()):
                _fail(batch, str(failed))
                return
            # Without a verdict the event is on file and will be applied in order: OK is the truth that can be told.
            statuses = (_OK,) * len(batch) if answered.cancelled() else answered.result()
            for waiting, status in zip(batch, statuses, strict=True):
                if not waiting.verdict.done():
                    waiting.verdict.set_result(status)

        answer.add_done_callback(tell)
        self._unanswered += 1
        if self._sender.answered:
            self._sender.answered = await self._until(self._may_go_on, limits.verdict_wait * _PATIENCE)
        else:
            await self._until(self._is_worth_it, _COLLECT_SECONDS)

    def _may_go_on(self) -> bool:
        """Whether all batches are answered, or the next one is large and just one is not."""
        return self._unanswered <= (len(self._waiting) >= AHEAD)

    def _is_worth_it(self) -> bool:
        """Whether a full batch waits, or executions answers again."""
        return self._sender.answered or len(self._waiting) >= self._sender.limits.batch_events

    async def _until(self, condition: Callable[[], bool], patience: float) -> bool:
        """Wait until `condition` holds, but no longer than `patience` seconds; answers whether it does."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        timer = loop.call_later(patience, self._wake)
        while not (holds := condition()) and loop.time() < end:
            self._go_on = loop.create_future()
            await self._go_on
        timer.cancel()
        return holds

    def _wake(self) -> None:
        if self._go_on is not None and not self._go_on.done():
            self._go_on.set_result(None)
