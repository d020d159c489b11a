"""Applies batches of events: read, fold, write in one transaction, answer (architecture, section 3).

Each lane is consumed strictly in order. A batch is applied once: its verdicts are stored with what it changed, and when
it is delivered again they are sent again. One that comes again after its successor, as from a replica that stood still,
changes nothing either. While a part is down the batch is tried until it is back; nothing is dropped
and nothing behind it in the lane overtakes it.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from services.contracts.event_batches import (
    EVENT_LANES,
    EVENT_REFUSED,
    INBOX_HEADER,
    STREAM_NAME,
    SUBJECTS,
    Batch,
    BatchedEvent,
    Refusal,
    decode_batch,
    decode_verdicts,
    durable_of,
    encode_verdicts,
    parking_place,
    refusal,
    subject_of,
    verdict,
)
from services.executions.rules.events.batch import Changes, Event, fold_batch, read_event, wanted
from services.executions.rules.events.storage import Storage
from services.executions.store.event_rows import Lane, lock_lane, mark_lane, read_rows, savepoint, write_rows
from services.kit.bus import Bus, Delivery, Stream
from services.kit.db import Connection, Database
from services.kit.errors import (
    AlreadyExists,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServiceError,
    Unavailable,
    to_status,
)
from services.kit.objects import ObjectStore
from services.kit.outbox import Outbox

log = logging.getLogger(__name__)

STREAM = Stream(STREAM_NAME, (SUBJECTS,), max_age=0, until_done=True)

# A part is down or overloaded: the batch waits. Any other failure of a write is the fault of one of its events.
_PART_DOWN = (Unavailable, DeadlineExceeded, ResourceExhausted)


class EventBatches:
    """The consumer of every lane."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, outbox: Outbox, storage: Storage) -> None:
        self._db = db
        self._bus = bus
        self._objects = objects
        self._outbox = outbox
        self._storage = storage

    async def listen(self) -> None:
        """Consume every lane from now on, side by side; raises Unavailable when NATS is not there."""
        await self._bus.ensure(STREAM)
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
        events = await asyncio.gather(*map(self._event, batch.events))
        try:
            data = await self._apply(lane, delivery, batch, events)
        except _PART_DOWN:
            raise
        except Exception:  # whatever it was, only the event that caused it may suffer
            log.warning("a batch of events is applied one by one", extra={"batch": batch.id}, exc_info=True)
            data = await self._apply(lane, delivery, batch, events, one_by_one=True)
        if data and (inbox := delivery.headers.get(INBOX_HEADER)):
            await self._bus.send(inbox, data)

    async def _event(self, batched: BatchedEvent) -> Event | ServiceError:
        if not batched.by_reference:
            return read_event(batched)
        try:
            body = await self._objects.get(batched.body.decode())
        except (NotFound, InvalidArgument) as error:
            return Internal(f"the event was kept aside and is gone: {error.message}")
        return read_event(BatchedEvent(batched.kind, body))

    async def _apply(
        self,
        lane: int,
        delivery: Delivery,
        batch: Batch,
        events: Sequence[Event | ServiceError],
        *,
        one_by_one: bool = False,
    ) -> bytes:
        """Apply a batch unless it is applied; answers its verdicts, nothing when they are no longer known."""
        async with self._db.transaction() as connection:
            last = await lock_lane(connection, lane)
            if last.verdicts and decode_verdicts(last.verdicts).id == batch.id:
                return last.verdicts
            if last.is_past(delivery.sequence, delivery.stored_at):
                log.warning("a batch of events came again after its successor", extra={"batch": batch.id})
                return b""
            if one_by_one:
                verdicts: Sequence[ServiceError | None] = [
                    await self._write_alone(connection, event) for event in events
                ]
            else:
                verdicts = await self._write(connection, events)
            await self._report(connection, batch, verdicts)
            data = encode_verdicts(batch.id, list(map(verdict, verdicts)))
            await mark_lane(connection, lane, Lane(data, delivery.sequence, delivery.stored_at))
        return data

    async def _write(
        self, connection: Connection, events: Sequence[Event | ServiceError]
    ) -> Sequence[ServiceError | None]:
        rows = await read_rows(connection, wanted(events))
        changes = fold_batch(events, rows, self._storage)
        await self._offload(changes)
        await write_rows(connection, changes)
        return changes.verdicts

    async def _write_one_by_one(
        self, connection: Connection, events: Sequence[Event | ServiceError]
    ) -> Sequence[ServiceError | None]:
        return [await self._write_alone(connection, event) for event in events]

    async def _write_alone(self, connection: Connection, event: Event | ServiceError) -> ServiceError | None:
        try:
            async with savepoint(connection):
                verdicts = await self._write(connection, [event])
        except _PART_DOWN:
            raise
        except ServiceError as error:
            return error
        except Exception as error:  # noqa: BLE001  # reported with its cause, see _report
            failed = Internal("the event could not be applied")
            failed.__cause__ = error
            return failed
        return verdicts[0]

    async def _offload(self, changes: Changes) -> None:
        """Write the objects that the new state names; state must never name an object that is not there."""
        if changes.offloads:
            objects = {offload.uri: offload.data for offload in changes.offloads}
            await asyncio.gather(*(self._objects.put(uri, data) for uri, data in objects.items()))

    async def _report(self, connection: Connection, batch: Batch, verdicts: Sequence[ServiceError | None]) -> None:
        """Say which events were refused: their callers may have been told already that all is well."""
        for position, error in enumerate(verdicts):
            if error is None or isinstance(error, AlreadyExists):
                continue
            if error.__cause__ is not None:
                log.error("an event failed", exc_info=error.__cause__, extra={"batch": batch.id, "position": position})
            refused = Refusal(batch.id, position, batch.events[position], to_status(error))
            await self._outbox.put(connection, EVENT_REFUSED, refusal(refused))
