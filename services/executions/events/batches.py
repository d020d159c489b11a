"""Takes batches of events from the lanes and answers with their verdicts (architecture, section 3).

Each lane is consumed strictly in order, lanes side by side. A batch is a transaction (`event_applier`), so the more is
in it, the less each event costs. While a part is down a batch is tried until it is back; nothing is dropped and nothing
behind it in the lane overtakes it.
"""

import asyncio
import logging
from functools import partial

from services.contracts.event_batches import (
    EVENT_LANES,
    INBOX_HEADER,
    STREAM_NAME,
    SUBJECTS,
    BatchedEvent,
    decode_batch,
    durable_of,
    parking_place,
    subject_of,
)
from services.executions.events.applier import EventApplier, ReceivedBatch
from services.executions.rules.events.batch import Event, read_event
from services.executions.rules.events.storage import Storage
from services.kit.db.database import Database
from services.kit.errors import Internal, InvalidArgument, NotFound, ServiceError
from services.kit.messaging.bus import Bus, Delivery, Stream
from services.kit.messaging.outbox import Outbox
from services.kit.objects.store import ObjectStore

log = logging.getLogger(__name__)

STREAM = Stream(STREAM_NAME, (SUBJECTS,), max_age=0, until_done=True)


class EventBatches:
    """The consumer of every lane."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, outbox: Outbox, storage: Storage) -> None:
        self._bus = bus
        self._objects = objects
        self._applier = EventApplier(db, objects, outbox, storage)

    async def listen(self) -> None:
        """Consume every lane from now on, side by side; raises Unavailable when NATS is not there."""
        await self._bus.ensure(STREAM, own=False)
        for lane in range(EVENT_LANES):
            await self._bus.consume(STREAM, subject_of(lane), durable_of(lane), partial(self.take, lane))

    async def take(self, lane: int, delivery: Delivery) -> None:
        """Apply one batch and send its verdicts; taking it again sends the same ones.

        Raises a ServiceError while a part is down; the batch has then changed nothing.
        """
        try:
            batch = decode_batch(delivery.payload)
        except InvalidArgument:
            uri = self._objects.uri(*parking_place(lane, delivery.sequence))
            await self._objects.put(uri, delivery.payload)
            log.exception("a batch of events cannot be read", extra={"parked": uri})
            return
        aside = iter(await asyncio.gather(*(self._fetched(event) for event in batch.events if event.by_reference)))
        events = [next(aside) if event.by_reference else read_event(event) for event in batch.events]
        verdicts = await self._applier.apply(ReceivedBatch(lane, delivery.sequence, delivery.stored_at, batch, events))
        if verdicts and (inbox := delivery.headers.get(INBOX_HEADER)):
            await self._bus.send(inbox, verdicts)

    async def _fetched(self, batched: BatchedEvent) -> Event | ServiceError:
        try:
            body = await self._objects.get(batched.body.decode())
        except (NotFound, InvalidArgument) as error:
            return Internal(f"the event was kept aside and is gone: {error.message}")
        return read_event(BatchedEvent(batched.kind, body))
