"""Lanes: events of one execution travel in order, many events travel in one message (architecture, section 3).

A lane collects and cuts batches (`lane`); here they are put on file, and their verdicts find their way back.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.event_batches import (
    EVENT_LANES,
    INBOX_HEADER,
    TRIAL,
    Batch,
    BatchedEvent,
    Kind,
    decode_verdicts,
    encode_batch,
    framed_id,
    inbox_of,
    lane_of,
    parse_verdict,
    subject_of,
    waiting_place,
)
from services.contracts.event_fingerprints import HEADER as MARKS_HEADER
from services.contracts.event_fingerprints import encode_fingerprints, fingerprint_of
from services.events.ingest.batcher import Batcher, Limits
from services.kit.errors import Unavailable, from_status
from services.kit.messaging.bus import Bus, StreamMissing
from services.kit.objects.store import ObjectStore

# Between two tries to append; a stream elects its leader or a server restarts within a few of them.
_APPEND_AGAIN_SECONDS = 0.1
# What was put on file so lately tells that the next batch would be, too.
_PROVEN_SECONDS = 1.0


class EventPublisher:
    """Every lane of this process; whoever builds it lets `heard` hear `inbox` and has made the stream ready first.

    `sender` is unique among all processes ever run.
    """

    def __init__(self, bus: Bus, objects: ObjectStore, limits: Limits, sender: str) -> None:
        self._bus = bus
        self._objects = objects
        self.limits = limits
        self._sender = sender
        self._sent = 0
        self.inbox = inbox_of(sender)
        self._lanes = [Batcher(self, number) for number in range(EVENT_LANES)]
        self._answers: dict[str, asyncio.Future[tuple[bytes, ...]]] = {}
        self._on_file: set[str] = set()  # of these, the batches that the stream has acknowledged
        self._on_file_at = -_PROVEN_SECONDS  # when a batch was last put on file, as the event loop's time
        self.answered = True
        """Whether executions answered when it was last waited for."""

    async def record(self, execution: WorkflowExecutionIdentifier, kind: Kind, body: bytes) -> None:
        """Put an event on file and wait for its verdict, but not longer than the verdict wait.

        Raises the verdict, ResourceExhausted when the lane is full, Unavailable when the event is not on file.
        """
        lane = self._lanes[lane_of(execution.project, execution.domain, execution.name)]
        mark = fingerprint_of(execution.project, execution.domain, execution.name)
        status = parse_verdict(await lane.take(BatchedEvent(kind, body, mark=mark)))
        if status is not None:
            raise from_status(status)

    async def check(self) -> None:
        """Raise Unavailable unless an event would be put on file now; tries it when none was of late."""
        if asyncio.get_running_loop().time() - self._on_file_at > _PROVEN_SECONDS:
            self._sent += 1
            identifier = f"{self._sender}-{self._sent}"
            try:
                await self._put_on_file(TRIAL, encode_batch(Batch(identifier, ())), identifier)
            except Unavailable as error:
                raise Unavailable("the stream takes no events") from error

    def lost(self) -> None:
        """Tell the callers of batches under way that the stream is gone, and their events with it."""
        for identifier in list(self._on_file):
            if not self._answers[identifier].done():
                self._answers[identifier].set_exception(Unavailable("the stream of events was lost"))

    async def drain(self) -> None:
        """Send what the lanes hold."""
        await asyncio.gather(*(lane.drain() for lane in self._lanes))

    async def send(self, lane: int, events: Sequence[BatchedEvent]) -> asyncio.Future[tuple[bytes, ...]]:
        """Append a batch; answers the future of its verdicts once it is on file. Raises Unavailable.

        A try that failed may have reached the stream all the same: the next one carries the same id and is dropped
        there.
        """
        self._sent += 1
        identifier = f"{self._sender}-{self._sent}"
        answer: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
        self._answers[identifier] = answer
        answer.add_done_callback(lambda _: self._forget(identifier))
        try:
            async with asyncio.timeout(self.limits.append_wait):
                batch = Batch(identifier, await self._slim(events, identifier))
                headers = {INBOX_HEADER: self.inbox, MARKS_HEADER: encode_fingerprints(event.mark for event in events)}
                await self._append(subject_of(lane), encode_batch(batch), identifier, headers)
        except (TimeoutError, Unavailable) as error:
            answer.cancel()
            raise Unavailable("the event cannot be put on file now") from error
        if not answer.done():
            self._on_file.add(identifier)
        return answer

    def _forget(self, identifier: str) -> None:
        self._answers.pop(identifier, None)
        self._on_file.discard(identifier)

    async def _append(self, subject: str, payload: bytes, identifier: str, headers: dict[str, str]) -> None:
        while True:
            try:
                await self._put_on_file(subject, payload, identifier, headers)
            except StreamMissing:
                with contextlib.suppress(Unavailable):
                    await self._bus.mend()
            except Unavailable:
                await asyncio.sleep(_APPEND_AGAIN_SECONDS)
            else:
                return

    async def _put_on_file(
        self, subject: str, payload: bytes, identifier: str, headers: dict[str, str] | None = None
    ) -> None:
        self._on_file_at = -_PROVEN_SECONDS
        await self._bus.append(subject, payload, identifier, headers)
        self._on_file_at = asyncio.get_running_loop().time()

    async def _slim(self, events: Sequence[BatchedEvent], batch_id: str) -> tuple[BatchedEvent, ...]:
        """Put large events into the object store and a reference in their place."""
        slim = list(events)
        large = [place for place, event in enumerate(events) if len(event.body) > self.limits.large_event_bytes]
        if large:
            uris = [self._objects.uri(*waiting_place(batch_id, place)) for place in large]
            bodies = [events[place].body for place in large]
            await asyncio.gather(*map(self._objects.put, uris, bodies))
            for place, uri in zip(large, uris, strict=True):
                slim[place] = events[place]._replace(body=uri.encode(), by_reference=True)
        return tuple(slim)

    async def heard(self, data: bytes) -> None:
        """Take verdicts that were sent to `inbox`, or to another process: those are nobody's here."""
        answer = self._answers.get(framed_id(data))
        self.answered = True
        if answer is not None and not answer.done():
            answer.set_result(decode_verdicts(data).statuses)
