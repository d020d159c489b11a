"""The event publisher: sends batches to executions and returns their verdicts to the waiting calls.

Events of one execution travel in order, and many events travel in one message; `batcher` collects them.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from functools import partial

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.event_batches import (
    EVENT_LANES,
    PROBE_SUBJECT,
    VERDICT_SUBJECT_HEADER,
    Batch,
    BatchedEvent,
    Kind,
    batch_id,
    decode_verdicts,
    direct_subject_of,
    encode_batch,
    lane_of,
    large_event_path,
    parse_verdict,
    subject_of,
    verdict_subject_of,
)
from services.contracts.fingerprints import HEADER as FINGERPRINTS_HEADER
from services.contracts.fingerprints import encode_fingerprints, fingerprint_of
from services.events.ingest.batcher import Batcher
from services.events.ingest.lane_sender import LaneSender, OutgoingBatch
from services.events.ingest.limits import Limits
from services.kit.errors import Unavailable, from_status
from services.kit.messaging.bus import Bus, StreamMissing
from services.kit.objects.store import ObjectStore

# Between two attempts to append; a stream elects its leader or a server restarts within a few of them.
_APPEND_AGAIN_SECONDS = 0.1
# An event would be taken now if a batch was appended, or applied directly, within this time.
_AVAILABLE_SECONDS = 1.0
# How long a probe waits for executions before the stream is probed.
_DIRECT_PROBE_SECONDS = 0.5


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
        self._senders = [
            LaneSender(bus, lane, partial(self._append, subject_of(lane)), self.verdict_subject, limits)
            for lane in range(EVENT_LANES)
        ]
        self._taken_at = -_AVAILABLE_SECONDS  # time of the last append or direct verdicts, as the event loop's time
        self._probes: dict[str, asyncio.Future[bool]] = {}  # by the id of the batch
        self.executions_keeps_up = True
        """Whether executions returns verdicts in time. A batcher sets it to False when it could not send its next batch
        within its wait; verdicts of any batch set it to True."""

    async def record(self, execution: WorkflowExecutionIdentifier, kind: Kind, body: bytes) -> None:
        """Send an event to executions and wait for its verdict.

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
        """Raise Unavailable unless an event would be taken, directly or by the stream.

        When none was taken lately, executions receives a batch without events. If it does not reply, the stream does.
        """
        if asyncio.get_running_loop().time() - self._taken_at <= _AVAILABLE_SECONDS:
            return
        self._sent += 1
        identifier = batch_id(self._process_id, self._sent)
        probe = encode_batch(Batch(identifier, ()))
        if await self._is_applied(identifier, probe):
            return
        try:
            await self._append_once(PROBE_SUBJECT, probe, identifier)
        except Unavailable as error:
            raise Unavailable("executions takes no events, and neither does the stream") from error

    async def _is_applied(self, identifier: str, probe: bytes) -> bool:
        """Return whether executions replies to a batch without events, which it does while it can apply others."""
        replied: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._probes[identifier] = replied
        headers = {VERDICT_SUBJECT_HEADER: self.verdict_subject}
        try:
            async with asyncio.timeout(_DIRECT_PROBE_SECONDS):
                await self._bus.send(direct_subject_of(0), probe, headers, reply=self.verdict_subject)
                return await replied
        except (TimeoutError, Unavailable):
            return False
        finally:
            self._probes.pop(identifier, None)

    def fail_appended(self) -> None:
        """Raise Unavailable in the callers of batches in flight: the stream is gone, and their events with it."""
        for sender in self._senders:
            sender.fail_appended()

    async def drain(self) -> None:
        """Send all waiting events."""
        await asyncio.gather(*(batcher.drain() for batcher in self._batchers))

    async def send_batch(self, lane: int, events: Sequence[BatchedEvent]) -> asyncio.Future[tuple[bytes, ...]]:
        """Send a batch and return the future of its verdicts; raise Unavailable when it cannot be sent.

        The future is cancelled when the wait for verdicts is over and the batch is in the stream.
        """
        self._sent += 1
        number = self._sent
        identifier = batch_id(self._process_id, number)
        fingerprints = encode_fingerprints(event.fingerprint for event in events)
        headers = {VERDICT_SUBJECT_HEADER: self.verdict_subject, FINGERPRINTS_HEADER: fingerprints}
        try:
            async with asyncio.timeout(self.limits.append_wait):
                payload = encode_batch(Batch(identifier, await self._store_large(events, identifier)))
        except (TimeoutError, Unavailable) as error:
            raise Unavailable("the event cannot be put on file now") from error
        reply: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
        await self._senders[lane].send(OutgoingBatch(number, identifier, payload, headers, reply))
        return reply

    async def _append(self, subject: str, batch: OutgoingBatch) -> None:
        """Append a batch to the stream; try again until it succeeds.

        An attempt that failed may have reached the stream all the same: the next one has the same id, and the stream
        drops it.
        """
        while True:
            try:
                await self._append_once(subject, batch.payload, batch.identifier, batch.headers)
            except StreamMissing:
                with contextlib.suppress(Unavailable):
                    await self._bus.create_missing_streams()
            except Unavailable:
                await asyncio.sleep(_APPEND_AGAIN_SECONDS)
            else:
                return

    async def _append_once(
        self, subject: str, payload: bytes, identifier: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._taken_at = -_AVAILABLE_SECONDS
        await self._bus.append(subject, payload, identifier, headers)
        self._taken_at = asyncio.get_running_loop().time()

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
        """Return framed verdicts to the waiting calls; those of other processes are ignored.

        A message without content is from NATS: nothing receives the direct batches.
        """
        if not data:
            for sender in self._senders:
                sender.no_receiver()
            while self._probes:
                _, probe = self._probes.popitem()
                _resolve(probe, result=False)
            return
        verdicts = decode_verdicts(data)
        if (expected := self._probes.pop(verdicts.id, None)) is not None:
            _resolve(expected, result=True)
            return
        self.executions_keeps_up = True
        self._taken_at = asyncio.get_running_loop().time()
        for sender in self._senders:
            sender.receive_verdicts(verdicts.id, verdicts.statuses)


def _resolve(probe: asyncio.Future[bool], *, result: bool) -> None:
    if not probe.done():  # as it is when the wait is over
        probe.set_result(result)
