"""The sender of a lane: its batches go directly to executions, and through the stream when that does not work.

A batch that goes directly costs one message each way and is not stored: executions applies it and replies with its
verdicts. The stream stores batches on disk until executions applies them; that costs a second sync, and more messages.

Order and "acknowledged is never lost" hold in both ways, and from one to the other
(docs/decisions/0027-direct-batches.md):

- A batch without verdicts from its direct way is appended to the stream with the same id, after those before it.
- A call returns without a verdict only when its batch is in the stream.
- A direct batch names the batch before it, without which executions does not apply it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter

from services.contracts.event_batches import AFTER_HEADER, direct_subject_of
from services.events.ingest.limits import Limits
from services.kit.errors import Unavailable
from services.kit.messaging.bus import Bus

log = logging.getLogger(__name__)

# A transaction takes milliseconds. Executions that has not replied by now is slow, frozen or just gone.
DIRECT_SECONDS = 1.0

SENT = Counter("flyteplane_event_batches_sent_total", "Batches of events by the way they went first", ["way"])
FALLEN_BACK = Counter("flyteplane_event_batches_fallen_back_total", "Direct batches that had to go into the stream")

Statuses = tuple[bytes, ...]


@dataclass(eq=False)
class OutgoingBatch:
    """A batch on its way.

    Attributes:
        number: Its number among the batches of this process.
        identifier: Its id.
        payload: The framed batch.
        headers: Its headers, in both ways.
        after: The number of the batch before it, 0 for none.
        reply: The future of its verdicts; cancelled when the wait for them is over, with the batch in the stream.
        append_by: The event loop's time until which the stream may take it.
        appended: Done when the batch is in the stream, or cannot be appended.
        is_stored: Whether the stream has acknowledged it.
        timer: Of the wait for its verdicts.
    """

    number: int
    identifier: str
    payload: bytes
    headers: Mapping[str, str]
    reply: asyncio.Future[Statuses]
    after: int = 0
    append_by: float = 0.0
    appended: asyncio.Future[None] | None = None
    is_stored: bool = False
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class LaneSender:
    """The sender of one lane.

    Args:
        bus: The connection to NATS.
        lane: The lane.
        append: Appends a batch to the stream, with retries until it is cancelled.
        verdict_subject: Where the verdicts are received, which are passed to `receive_verdicts`.
        limits: Of waiting.
    """

    def __init__(
        self,
        bus: Bus,
        lane: int,
        append: Callable[[OutgoingBatch], Awaitable[None]],
        verdict_subject: str,
        limits: Limits,
    ) -> None:
        self._bus = bus
        self._subject = direct_subject_of(lane)
        self._append = append
        self._verdict_subject = verdict_subject
        self._limits = limits
        self._latest = 0  # the number of the latest batch that may be applied
        self._direct: dict[str, OutgoingBatch] = {}  # by id, in the order of their numbers
        self._to_append: deque[OutgoingBatch] = deque()
        self._in_stream: dict[str, OutgoingBatch] = {}
        self._appending: asyncio.Task[None] | None = None
        self._executions_replies = True  # to direct batches, as far as is known

    async def send(self, batch: OutgoingBatch) -> None:
        """Send a batch; raise Unavailable when it can go neither way."""
        batch.after, self._latest = self._latest, batch.number
        if self._may_go_directly() and await self._send_directly(batch):
            SENT.labels("direct").inc()
            return
        SENT.labels("stream").inc()
        self._fall_back_up_to(batch.number)
        batch.appended = asyncio.get_running_loop().create_future()
        self._enqueue(batch)
        await batch.appended

    def receive_verdicts(self, identifier: str, statuses: Statuses) -> None:
        """Resolve the reply of a batch; one without statuses was not applied, and goes into the stream."""
        self._executions_replies = True
        batch = self._direct.get(identifier) or self._in_stream.get(identifier)
        if batch is None:
            return
        if statuses:
            self._forget(batch)
            if not batch.reply.done():
                batch.reply.set_result(statuses)
        elif identifier in self._direct:
            self._fall_back_up_to(batch.number)

    def no_receiver(self) -> None:
        """Send the batches on their direct way into the stream: no replica of executions receives this lane."""
        if self._direct:
            self._executions_replies = False
            self._fall_back_up_to(next(reversed(self._direct.values())).number)

    def fail_appended(self) -> None:
        """Raise Unavailable in the callers of batches that wait in the stream: it is gone, and they with it."""
        for batch in list(self._in_stream.values()):
            if batch.is_stored:  # the append of the others goes on, in the new stream
                self._fail(batch, "the stream of events was lost")

    def _may_go_directly(self) -> bool:
        return self._executions_replies and not self._to_append and not self._in_stream

    async def _send_directly(self, batch: OutgoingBatch) -> bool:
        headers = {**batch.headers, AFTER_HEADER: str(batch.after)}
        self._direct[batch.identifier] = batch
        batch.timer = asyncio.get_running_loop().call_later(DIRECT_SECONDS, self._wait_in_vain, batch)
        try:
            await self._bus.send(self._subject, batch.payload, headers, reply=self._verdict_subject)
        except Unavailable:
            self._forget(batch)
            return False
        return True

    def _wait_in_vain(self, batch: OutgoingBatch) -> None:
        self._executions_replies = False
        self._fall_back_up_to(batch.number)

    def _fall_back_up_to(self, number: int) -> None:
        """Queue the direct batches up to `number` for the stream, in their order: none may overtake another there."""
        for batch in [each for each in self._direct.values() if each.number <= number]:
            self._forget(batch)
            if not batch.reply.done():
                FALLEN_BACK.inc()
                self._enqueue(batch)

    def _enqueue(self, batch: OutgoingBatch) -> None:
        batch.append_by = asyncio.get_running_loop().time() + self._limits.append_wait
        self._to_append.append(batch)
        if self._appending is None:
            self._appending = asyncio.create_task(self._append_all())

    async def _append_all(self) -> None:
        """Append the queued batches one after the other."""
        try:
            while self._to_append:
                batch = self._to_append[0]
                # Verdicts may arrive before the acknowledgement of the append.
                self._in_stream[batch.identifier] = batch
                try:
                    async with asyncio.timeout_at(batch.append_by):
                        await self._append(batch)
                except (TimeoutError, Unavailable):
                    self._fail(batch, "the event cannot be put on file now")
                except Exception:
                    log.exception("a batch of events could not be appended")
                    self._fail(batch, "the event could not be stored")
                else:
                    self._wait_for_verdicts(batch)
                self._to_append.popleft()
        finally:
            self._appending = None

    def _wait_for_verdicts(self, batch: OutgoingBatch) -> None:
        batch.is_stored = True
        if batch.appended is not None and not batch.appended.done():
            batch.appended.set_result(None)
        if not batch.reply.done():
            batch.timer = asyncio.get_running_loop().call_later(self._limits.verdict_wait, self._stop_waiting, batch)

    def _stop_waiting(self, batch: OutgoingBatch) -> None:
        """End the wait of the callers, whose events are in the stream."""
        self._executions_replies = False
        self._forget(batch)
        batch.reply.cancel()

    def _fail(self, batch: OutgoingBatch, message: str) -> None:
        self._forget(batch)
        if self._latest == batch.number:
            self._latest = batch.after
        if batch.appended is not None and not batch.appended.done():
            batch.appended.set_exception(Unavailable(message))
            batch.reply.cancel()
        elif not batch.reply.done():
            batch.reply.set_exception(Unavailable(message))

    def _forget(self, batch: OutgoingBatch) -> None:
        self._direct.pop(batch.identifier, None)
        self._in_stream.pop(batch.identifier, None)
        if batch.timer is not None:
            batch.timer.cancel()
