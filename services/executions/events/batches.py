"""The consumer of batches of events: applies them and sends their verdicts.

Each lane is consumed strictly in order, all lanes concurrently. A batch is a transaction (`applier`), so events of
large batches cost less. While the database, the object store or NATS is down a batch is retried: nothing is dropped,
and no later batch of the lane overtakes it.
"""

import asyncio
import logging
from functools import partial

from services.contracts.event_batches import (
    BATCHES_STREAM,
    EVENT_LANES,
    VERDICT_SUBJECT_HEADER,
    BatchedEvent,
    decode_batch,
    durable_of,
    subject_of,
    unreadable_batch_path,
)
from services.executions.events.applier import EventApplier, ReceivedBatch
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
    """The consumer of all lanes."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, outbox: Outbox, layout: ObjectLayout) -> None:
        self._bus = bus
        self._objects = objects
        self._applier = EventApplier(db, objects, outbox, layout)

    async def listen(self) -> None:
        """Consume all lanes from now on, concurrently; raise Unavailable when NATS cannot be reached."""
        await self._bus.declare_stream(BATCHES_STREAM, own=False)
        for lane in range(EVENT_LANES):
            await self._bus.consume(
                BATCHES_STREAM, subject_of(lane), durable_of(lane), partial(self.apply_delivery, lane)
            )

    async def apply_delivery(self, lane: int, delivery: Delivery) -> None:
        """Apply one batch and send its verdicts; a batch that is delivered again gets the same ones.

        Raises:
            ServiceError: The database, the object store or NATS is down; the batch must be delivered again.
        """
        try:
            batch = decode_batch(delivery.payload)
        except InvalidArgument:
            uri = self._objects.uri(*unreadable_batch_path(lane, delivery.sequence))
            await self._objects.put(uri, delivery.payload)
            log.exception("a batch of events cannot be read", extra={"uri": uri})
            return
        large = iter(await asyncio.gather(*(self._fetch(event) for event in batch.events if event.by_reference)))
        # One after the other: more threads would not parse faster, and hold the event loop up.
        events = [await _read_large(next(large)) if event.by_reference else read_event(event) for event in batch.events]
        verdicts = await self._applier.apply(ReceivedBatch(lane, delivery.sequence, delivery.stored_at, batch, events))
        if verdicts and (subject := delivery.headers.get(VERDICT_SUBJECT_HEADER)):
            await self._bus.send(subject, verdicts)

    async def _fetch(self, batched: BatchedEvent) -> BatchedEvent | ServiceError:
        try:
            body = await self._objects.get(batched.body.decode())
        except (NotFound, InvalidArgument) as error:
            return Internal(f"the object of the large event is gone: {error.message}")
        return BatchedEvent(batched.kind, body)


async def _read_large(fetched: BatchedEvent | ServiceError) -> Event | ServiceError:
    return fetched if isinstance(fetched, ServiceError) else await asyncio.to_thread(read_event, fetched)
