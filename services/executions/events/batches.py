"""The consumer of batches of events: applies them and sends their verdicts.

Each lane is consumed strictly in order, all lanes concurrently. A batch is a transaction (`applier`), so events of
large batches cost less. While the database, the object store or NATS is down a batch is retried: nothing is dropped,
and no later batch of the lane overtakes it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from services.contracts.event_batches import (
    AFTER_HEADER,
    BATCHES_STREAM,
    EVENT_LANES,
    VERDICT_SUBJECT_HEADER,
    Batch,
    BatchedEvent,
    decode_batch,
    durable_of,
    encode_verdicts,
    subject_of,
    unreadable_batch_path,
)
from services.contracts.fingerprints import HEADER as FINGERPRINTS_HEADER
from services.contracts.fingerprints import decode_fingerprints
from services.executions.events.applier import DirectBatch, EventApplier, ReceivedBatch, StoredBatch
from services.executions.events.backlog import Backlog
from services.executions.rules.events.batch import Event, read_event
from services.executions.rules.events.layout import ObjectLayout
from services.kit.db.database import Database
from services.kit.errors import Internal, InvalidArgument, NotFound, ServiceError
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox
from services.kit.messaging.streams import Delivery
from services.kit.objects.store import ObjectStore

log = logging.getLogger(__name__)


class EventBatchConsumer:
    """The consumer of all lanes: of the batches in the stream, and of direct ones while this replica owns the lane."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, outbox: Outbox, layout: ObjectLayout) -> None:
        self._db = db
        self._bus = bus
        self._objects = objects
        self._applier = EventApplier(db, objects, outbox, layout)
        # A batch of the stream and a direct one are applied one after the other.
        self._locks = [asyncio.Lock() for _ in range(EVENT_LANES)]
        self._backlogs = [Backlog(bus, lane) for lane in range(EVENT_LANES)]

    async def listen(self) -> None:
        """Consume all lanes of the stream from now on, concurrently; raise Unavailable when NATS cannot be reached."""
        await self._bus.declare_stream(BATCHES_STREAM, own=False)
        for lane in range(EVENT_LANES):
            await self._bus.consume(
                BATCHES_STREAM, subject_of(lane), durable_of(lane), partial(self.apply_delivery, lane)
            )

    async def apply_delivery(self, lane: int, delivery: Delivery) -> None:
        """Apply one batch of the stream and send its verdicts; one that is delivered again gets the same ones.

        Raises:
            ServiceError: The database, the object store or NATS is down; the batch must be delivered again.
        """
        self._backlogs[lane].seen()
        try:
            batch = decode_batch(delivery.payload)
        except InvalidArgument:
            uri = self._objects.uri(*unreadable_batch_path(lane, delivery.sequence))
            await self._objects.put(uri, delivery.payload)
            await self._applier.log_unreadable(lane, delivery.sequence, delivery.stored_at, delivery.payload)
            log.exception("a batch of events cannot be read", extra={"uri": uri})
            return
        source = StoredBatch(delivery.sequence, delivery.stored_at)
        received = await self._received(lane, batch, delivery.payload, delivery.headers, source)
        async with self._locks[lane]:
            verdicts = await self._applier.apply(received)
        if verdicts and (subject := delivery.headers.get(VERDICT_SUBJECT_HEADER)):
            await self._bus.send(subject, verdicts)

    async def apply_direct(self, lane: int, payload: bytes, headers: Mapping[str, str]) -> None:
        """Apply one batch that came directly and send its verdicts.

        A batch that cannot be applied now gets a frame without verdicts: its sender appends it to the stream. One
        without events is a probe; it gets that frame while batches can be applied, and no response otherwise.
        """
        try:
            batch, source = decode_batch(payload), DirectBatch(int(headers.get(AFTER_HEADER, "0")), datetime.now(UTC))
        except (InvalidArgument, ValueError):
            log.exception("a direct batch of events cannot be read")  # its sender appends it to the stream
            return
        verdicts = encode_verdicts(batch.id, ())
        try:
            if not batch.events:
                await self._db.check_writes()
            else:
                async with self._locks[lane]:
                    if await self._backlogs[lane].is_empty():
                        received = await self._received(lane, batch, payload, headers, source)
                        verdicts = await self._applier.apply(received)
        except ServiceError as error:
            log.warning("a direct batch of events is not applied: %s", error.message, extra={"batch": batch.id})
            if not batch.events:
                return
        if verdicts and (subject := headers.get(VERDICT_SUBJECT_HEADER)):
            with contextlib.suppress(ServiceError):
                await self._bus.send(subject, verdicts)

    async def _received(
        self, lane: int, batch: Batch, payload: bytes, headers: Mapping[str, str], source: StoredBatch | DirectBatch
    ) -> ReceivedBatch:
        """Return a batch with its events parsed, large ones fetched from the object store."""
        large = iter(await asyncio.gather(*(self._fetch(event) for event in batch.events if event.by_reference)))
        # One after the other: more threads would not parse faster, and hold the event loop up.
        events = [await _read_large(next(large)) if event.by_reference else read_event(event) for event in batch.events]
        fingerprints = decode_fingerprints(headers.get(FINGERPRINTS_HEADER))
        return ReceivedBatch(lane, batch, events, payload, fingerprints, source)

    async def _fetch(self, batched: BatchedEvent) -> BatchedEvent | ServiceError:
        try:
            body = await self._objects.get(batched.body.decode())
        except (NotFound, InvalidArgument) as error:
            return Internal(f"the object of the large event is gone: {error.message}")
        return BatchedEvent(batched.kind, body)


async def _read_large(fetched: BatchedEvent | ServiceError) -> Event | ServiceError:
    return fetched if isinstance(fetched, ServiceError) else await asyncio.to_thread(read_event, fetched)
