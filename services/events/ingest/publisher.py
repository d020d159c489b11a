"""The event publisher: appends batches to the stream and returns their verdicts to the waiting calls.

Events of one execution travel in order, and many events travel in one message; `batcher` collects them.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.event_batches import (
    EVENT_LANES,
    PROBE_SUBJECT,
    VERDICT_SUBJECT_HEADER,
    Batch,
    BatchedEvent,
    Kind,
    decode_verdicts,
    encode_batch,
    framed_id,
    lane_of,
    large_event_path,
    parse_verdict,
    subject_of,
    verdict_subject_of,
)
from services.events.ingest.batcher import Batcher, Limits
from services.events.rules.fingerprints import HEADER as FINGERPRINTS_HEADER
from services.events.rules.fingerprints import encode_fingerprints, fingerprint_of
from services.kit.errors import Unavailable, from_status
from services.kit.messaging.bus import Bus, StreamMissing
from services.kit.objects.store import ObjectStore

# Between two attempts to append; a stream elects its leader or a server restarts within a few of them.
_APPEND_AGAIN_SECONDS = 0.1
# After a successful append the stream counts as available for this long.
_AVAILABLE_SECONDS = 1.0


class EventPublisher:
    """The batchers of this process and what they share.

    The streams must exist (`streams.declare_streams`), and messages to `verdict_subject` must be passed to
    `receive_verdicts`.

    Args:
        bus: The connection to NATS.
        objects: Where large events are stored.
        limits: Of waiting, lanes and batches.
        process_id: An id that no other process has or had, one token of a subject.
    """

    def __init__(self, bus: Bus, objects: ObjectStore, limits: Limits, process_id: str) -> None:
        self._bus = bus
        self._objects = objects
        self.limits = limits
        self._process_id = process_id
        self._sent = 0
        self.verdict_subject = verdict_subject_of(process_id)
        self._batchers = [Batcher(self, lane) for lane in range(EVENT_LANES)]
        self._replies: dict[str, asyncio.Future[tuple[bytes, ...]]] = {}
        self._appended: set[str] = set()  # ids of `_replies` whose batches the stream has acknowledged
        self._appended_at = -_AVAILABLE_SECONDS  # time of the last append, as the event loop's time
        self.executions_keeps_up = True
        """Whether executions returns verdicts in time. A batcher sets it to False when it could not send its next batch
        within its wait; verdicts of any batch set it to True."""

    async def record(self, execution: WorkflowExecutionIdentifier, kind: Kind, body: bytes) -> None:
        """Append an event to the stream and wait for its verdict.

        When none arrives within `limits.verdict_wait` seconds, return normally (OK): the event is in the stream and
        will be applied in order.

        Raises:
            ServiceError: The verdict.
            ResourceExhausted: The lane is full.
            Unavailable: The event is not in the stream.
        """
        batcher = self._batchers[lane_of(execution.project, execution.domain, execution.name)]
        fingerprint = fingerprint_of(execution.project, execution.domain, execution.name)
        status = parse_verdict(await batcher.record(BatchedEvent(kind, body, fingerprint=fingerprint)))
        if status is not None:
            raise from_status(status)

    async def check(self) -> None:
        """Raise Unavailable unless the stream accepts batches; appends an empty one when there was none lately."""
        if asyncio.get_running_loop().time() - self._appended_at > _AVAILABLE_SECONDS:
            self._sent += 1
            identifier = f"{self._process_id}-{self._sent}"
            try:
                await self._append_once(PROBE_SUBJECT, encode_batch(Batch(identifier, ())), identifier)
            except Unavailable as error:
                raise Unavailable("the stream takes no events") from error

    def fail_appended(self) -> None:
        """Raise Unavailable in the callers of batches in flight: the stream is gone, and their events with it."""
        for identifier in list(self._appended):
            if not self._replies[identifier].done():
                self._replies[identifier].set_exception(Unavailable("the stream of events was lost"))

    async def drain(self) -> None:
        """Send all waiting events."""
        await asyncio.gather(*(batcher.drain() for batcher in self._batchers))

    async def append_batch(self, lane: int, events: Sequence[BatchedEvent]) -> asyncio.Future[tuple[bytes, ...]]:
        """Append a batch and return the future of its verdicts; raise Unavailable when it cannot be appended.

        An attempt that failed may have reached the stream all the same: the next one has the same id, and the stream
        drops it.
        """
        self._sent += 1
        identifier = f"{self._process_id}-{self._sent}"
        reply: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
        self._replies[identifier] = reply
        reply.add_done_callback(lambda _: self._remove(identifier))
        fingerprints = encode_fingerprints(event.fingerprint for event in events)
        headers = {VERDICT_SUBJECT_HEADER: self.verdict_subject, FINGERPRINTS_HEADER: fingerprints}
        try:
            async with asyncio.timeout(self.limits.append_wait):
                batch = Batch(identifier, await self._store_large(events, identifier))
                await self._append(subject_of(lane), encode_batch(batch), identifier, headers)
        except (TimeoutError, Unavailable) as error:
            reply.cancel()
            raise Unavailable("the event cannot be put on file now") from error
        if not reply.done():
            self._appended.add(identifier)
        return reply

    def _remove(self, identifier: str) -> None:
        self._replies.pop(identifier, None)
        self._appended.discard(identifier)

    async def _append(self, subject: str, payload: bytes, identifier: str, headers: dict[str, str]) -> None:
        while True:
            try:
                await self._append_once(subject, payload, identifier, headers)
            except StreamMissing:
                with contextlib.suppress(Unavailable):
                    await self._bus.create_missing_streams()
            except Unavailable:
                await asyncio.sleep(_APPEND_AGAIN_SECONDS)
            else:
                return

    async def _append_once(
        self, subject: str, payload: bytes, identifier: str, headers: dict[str, str] | None = None
    ) -> None:
        self._appended_at = -_AVAILABLE_SECONDS
        await self._bus.append(subject, payload, identifier, headers)
        self._appended_at = asyncio.get_running_loop().time()

    async def _store_large(self, events: Sequence[BatchedEvent], batch_id: str) -> tuple[BatchedEvent, ...]:
        """Store large events in the object store and return the events with their URIs instead."""
        result = list(events)
        large = [position for position, event in enumerate(events) if self.limits.is_large(event)]
        if large:
            uris = [self._objects.uri(*large_event_path(batch_id, position)) for position in large]
            bodies = [events[position].body for position in large]
            await asyncio.gather(*map(self._objects.put, uris, bodies))
            for position, uri in zip(large, uris, strict=True):
                result[position] = events[position]._replace(body=uri.encode(), by_reference=True)
        return tuple(result)

    async def receive_verdicts(self, data: bytes) -> None:
        """Return framed verdicts to the waiting calls; those of other processes are ignored."""
        reply = self._replies.get(framed_id(data))
        self.executions_keeps_up = True
        if reply is not None and not reply.done():
            reply.set_result(decode_verdicts(data).statuses)
