"""Lanes: events of one execution travel in order, many events travel in one message (architecture, section 3).

A lane batches naturally: while a batch is on its way the next one collects, and leaves when the verdicts of the first
are in. A lone event waits for nobody. A timer would cost both latency and throughput (architecture, section 4).
"""

import asyncio
from collections import Counter as Tally
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from prometheus_client import Counter, Gauge, Histogram

from services.contracts.event_batches import (
    EVENT_LANES,
    INBOX_HEADER,
    Batch,
    BatchedEvent,
    Kind,
    decode_verdicts,
    encode_batch,
    framed_id,
    inbox_of,
    lane_of,
    parse_verdict,
    size,
    subject_of,
    waiting_place,
)
from services.contracts.event_marks import HEADER as MARKS_HEADER
from services.contracts.event_marks import mark_of, tell_marks
from services.events.config import Settings
from services.kit.bus import Bus
from services.kit.errors import ResourceExhausted, Unavailable, from_status
from services.kit.objects import ObjectStore

# After this part of the verdict wait the next batch leaves although the verdicts of the last are not in: executions is
# slow or away, the order is safe in the stream, and whoever waits behind should not wait twice as long.
_PATIENCE = 0.25
# Turns of the event loop before a batch leaves: in the first the calls that wait in the sockets are read, in the next
# they reach their lanes. That costs microseconds when there are none; under load it doubles a batch, and a batch costs
# NATS and both services more than a millisecond whatever is in it.
_TURNS = 3
# Between two tries to append; a stream elects its leader or a server restarts within a few of them.
_APPEND_AGAIN_SECONDS = 0.1

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


@dataclass(frozen=True)
class _Waiting:
    """An event and the caller who waits for its verdict: a serialized Status, or a failure to put it on file."""

    event: BatchedEvent
    since: float  # the event loop's time
    verdict: asyncio.Future[bytes]


class Lanes:
    """Every lane of this process; whoever builds it lets `heard` hear `inbox` and has made the stream ready first.

    `sender` is unique among all processes ever run.
    """

    def __init__(self, bus: Bus, objects: ObjectStore, limits: Limits, sender: str) -> None:
        self._bus = bus
        self._objects = objects
        self._limits = limits
        self._sender = sender
        self._sent = 0
        self.inbox = inbox_of(sender)
        self._lanes = [_Lane(self, number) for number in range(EVENT_LANES)]
        self._answers: dict[str, asyncio.Future[tuple[bytes, ...]]] = {}
        self.answered = True
        """Whether executions answered when it was last waited for."""

    async def record(self, execution: WorkflowExecutionIdentifier, kind: Kind, body: bytes) -> None:
        """Put an event on file and wait for its verdict, but not longer than the verdict wait.

        Raises the verdict, ResourceExhausted when the lane is full, Unavailable when the event is not on file.
        """
        lane = self._lanes[lane_of(execution.project, execution.domain, execution.name)]
        mark = mark_of(execution.project, execution.domain, execution.name)
        status = parse_verdict(await lane.take(BatchedEvent(kind, body, mark=mark)))
        if status is not None:
            raise from_status(status)

    async def drain(self) -> None:
        """Send what the lanes hold."""
        await asyncio.gather(*(lane.drain() for lane in self._lanes))

    @property
    def limits(self) -> Limits:
        """What lanes are bounded by."""
        return self._limits

    async def send(self, lane: int, events: Sequence[BatchedEvent]) -> asyncio.Future[tuple[bytes, ...]]:
        """Append a batch; answers the future of its verdicts once it is on file. Raises Unavailable.

        A try that failed may have reached the stream all the same: the next one carries the same id and is dropped
        there.
        """
        self._sent += 1
        identifier = f"{self._sender}-{self._sent}"
        answer: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
        self._answers[identifier] = answer
        answer.add_done_callback(lambda _: self._answers.pop(identifier, None))
        try:
            async with asyncio.timeout(self._limits.append_wait):
                batch = Batch(identifier, await self._slim(events, identifier))
                headers = {INBOX_HEADER: self.inbox, MARKS_HEADER: tell_marks(event.mark for event in events)}
                await self._append(subject_of(lane), encode_batch(batch), identifier, headers)
        except (TimeoutError, Unavailable) as error:
            answer.cancel()
            raise Unavailable("the event cannot be put on file now") from error
        return answer

    async def _append(self, subject: str, payload: bytes, identifier: str, headers: dict[str, str]) -> None:
        while True:
            try:
                await self._bus.append(subject, payload, identifier, headers)
            except Unavailable:
                await asyncio.sleep(_APPEND_AGAIN_SECONDS)
            else:
                return

    async def _slim(self, events: Sequence[BatchedEvent], batch_id: str) -> tuple[BatchedEvent, ...]:
        """Put large events into the object store and a reference in their place."""
        slim = list(events)
        large = [place for place, event in enumerate(events) if len(event.body) > self._limits.large_event_bytes]
        if large:
            uris = [self._objects.uri(*waiting_place(batch_id, place)) for place in large]
            bodies = [events[place].body for place in large]
            await asyncio.gather(*map(self._objects.put, uris, bodies))
            for place, uri in zip(large, uris, strict=True):
                slim[place] = replace(events[place], body=uri.encode(), by_reference=True)
        return tuple(slim)

    async def heard(self, data: bytes) -> None:
        """Take verdicts that were sent to `inbox`, or to another process: those are nobody's here."""
        answer = self._answers.get(framed_id(data))
        self.answered = True
        if answer is not None and not answer.done():
            answer.set_result(decode_verdicts(data).statuses)


class _Lane:
    """One lane. Its loop runs only while there is something to send."""

    def __init__(self, lanes: Lanes, number: int) -> None:
        self._lanes = lanes
        self._number = number
        self._waiting: deque[_Waiting] = deque()
        self._of_execution: Tally[bytes] = Tally()
        self._loop: asyncio.Task[None] | None = None
        # Looked at when somebody asks for metrics, at no cost to an event.
        WAITING.labels(number).set_function(lambda: len(self._waiting))
        OLDEST.labels(number).set_function(self._oldest)

    async def take(self, event: BatchedEvent) -> bytes:
        if len(self._waiting) >= self._lanes.limits.lane_length:
            FULL.inc()
            raise ResourceExhausted("too many events are waiting")
        if self._of_execution[event.mark] >= self._lanes.limits.execution_events:
            FULL.inc()
            raise ResourceExhausted("too many events of this execution are waiting")
        self._of_execution[event.mark] += 1
        loop = asyncio.get_running_loop()
        waiting = _Waiting(event, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        if self._loop is None:
            self._loop = asyncio.create_task(self._send_all())
        return await waiting.verdict

    async def drain(self) -> None:
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
        limits = self._lanes.limits
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
        return 0 if taken > self._lanes.limits.large_event_bytes else taken

    async def _send(self, batch: list[_Waiting]) -> None:
        limits = self._lanes.limits
        began = asyncio.get_running_loop().time()
        BATCH_EVENTS.observe(len(batch))
        try:
            answer = await self._lanes.send(self._number, [waiting.event for waiting in batch])
        except Unavailable as failed:
            # Whoever queued up behind has waited through the same outage; their clients retry sooner than we could.
            for waiting in (*batch, *self._waiting):
                if not waiting.verdict.done():
                    waiting.verdict.set_exception(Unavailable(failed.message))
            self._waiting.clear()
            self._of_execution.clear()
            return
        timer = asyncio.get_running_loop().call_later(limits.verdict_wait, answer.cancel)

        def tell(answered: asyncio.Future[tuple[bytes, ...]]) -> None:
            timer.cancel()
            BATCH_SECONDS.observe(asyncio.get_running_loop().time() - began)
            # Without a verdict the event is on file and will be applied in order: OK is the truth that can be told.
            statuses = (_OK,) * len(batch) if answered.cancelled() else answered.result()
            for waiting, status in zip(batch, statuses, strict=True):
                if not waiting.verdict.done():
                    waiting.verdict.set_result(status)

        answer.add_done_callback(tell)
        # While executions is away nothing is gained by waiting: what is on file is applied in order later.
        if self._lanes.answered:
            done, _ = await asyncio.wait([answer], timeout=limits.verdict_wait * _PATIENCE)
            self._lanes.answered = bool(done)
