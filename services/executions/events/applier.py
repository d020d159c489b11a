"""Applies batches of events: read, fold, write, each in one transaction (architecture, section 3).

A batch is applied once: its verdicts are stored with what it changed, and when it comes again they are given again. One
that comes again after its successor, as from a replica that stood still, changes nothing either
(docs/decisions/0005-batches-are-applied-once.md).
"""

import asyncio
import logging
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import Counter, Histogram

from services.contracts.event_batches import (
    EVENT_LANES,
    EVENT_REFUSED,
    Batch,
    Refusal,
    decode_verdicts,
    encode_verdicts,
    refusal,
    verdict,
)
from services.executions.events.row_cache import RowCache
from services.executions.rules.events.batch import Changes, Event, Rows, RowsNeeded, fold_batch, rows_needed
from services.executions.rules.events.storage import Storage
from services.executions.store.event_rows import LaneCursor, mark_lane, read, read_rows, savepoint, write_rows
from services.kit.db.database import Database
from services.kit.db.pipeline import Pipeline
from services.kit.errors import (
    AlreadyExists,
    Code,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    ServiceError,
    Unavailable,
    to_status,
)
from services.kit.messaging.outbox import Outbox
from services.kit.objects.store import ObjectStore

log = logging.getLogger(__name__)

# A part is down or overloaded: the batch waits. Any other failure of a write is the fault of one of its events.
_PART_DOWN = (Unavailable, DeadlineExceeded, ResourceExhausted)

Verdicts = Sequence[ServiceError | None]

VERDICTS = Counter("flyteplane_event_verdicts_total", "Events by what became of them", ["code"])
TRANSACTION_SECONDS = Histogram(
    "flyteplane_event_transaction_seconds",
    "Time to read, fold and commit the events of one transaction",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
BATCH_AGE = Histogram(
    "flyteplane_event_batch_age_seconds",
    "From a batch being on file until it is committed; long after executions or its database was away",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600),
)


@dataclass(frozen=True)
class ReceivedBatch:
    """A batch of a lane with its events read; what could not be read is its verdict."""

    lane: int
    sequence: int  # of the stream
    stored_at: datetime  # by the stream
    batch: Batch
    events: Sequence[Event | ServiceError]


class EventApplier:
    """Brings batches into the database, in one order a lane."""

    def __init__(self, db: Database, objects: ObjectStore, outbox: Outbox, storage: Storage) -> None:
        self._db = db
        self._objects = objects
        self._outbox = outbox
        self._storage = storage
        self._memories = [RowCache() for _ in range(EVENT_LANES)]

    async def apply(self, arrived: ReceivedBatch) -> bytes:
        """Apply a batch; answers its verdicts, framed; nothing when they are forgotten.

        A lane may have one batch here at a time. Raises a ServiceError while a part is down.
        """
        try:
            with TRANSACTION_SECONDS.time():
                told = await self._in_one_go(arrived)
        except _PART_DOWN:
            raise
        except Exception:
            log.warning("a batch is applied one by one", extra={"batch": arrived.batch.id}, exc_info=True)
            told = await self._one_by_one(arrived)
        BATCH_AGE.observe(max(0.0, (datetime.now(UTC) - arrived.stored_at).total_seconds()))
        return told

    async def _in_one_go(self, arrived: ReceivedBatch) -> bytes:
        """Apply a batch unless it was applied before; answers its verdicts."""
        memory = self._memories[arrived.lane]
        need = rows_needed(arrived.events)
        try:
            async with self._db.pipeline() as pipeline:
                lane = self._known(arrived, need) or await self._read(pipeline, arrived.lane, need)
                told = _previous_verdicts(arrived, lane)
                left = lane if told is not None else await self._write(pipeline, arrived, lane)
        except BaseException:
            memory.forget()
            raise
        memory.keep(need, left)
        return left.verdicts if told is None else told

    def _known(self, arrived: ReceivedBatch, need: RowsNeeded) -> LaneCursor | None:
        """Where the lane was left, when this batch came next in the stream and all its rows are remembered.

        Nothing is read then: the batch is written in one round trip, which fails should the lane have moved on.
        """
        memory = self._memories[arrived.lane]
        left = memory.left
        if isinstance(left, LaneCursor) and left.sequence + 1 == arrived.sequence and memory.suffices(need):
            return left
        return None

    async def _read(self, pipeline: Pipeline, number: int, need: RowsNeeded) -> LaneCursor:
        """Lock the lane and read what is not remembered; all of it when another replica had it meanwhile."""
        memory = self._memories[number]
        lane, found = await read(pipeline, number, memory.lacking(need), memory.rows)
        if memory.left not in {None, lane}:
            memory.forget()
            found = await read_rows(pipeline, need, memory.rows)
        memory.rows.add(found)
        return lane

    async def _write(self, pipeline: Pipeline, arrived: ReceivedBatch, before: LaneCursor) -> LaneCursor:
        """Fold and write a new batch; answers where it leaves its lane, which is at `before`."""
        changes = fold_batch(arrived.events, self._memories[arrived.lane].rows, self._storage)
        await self._offload(changes)
        left = _mark(pipeline, arrived, changes.verdicts, before)
        write_rows(pipeline, changes)
        await self._report(pipeline, arrived.batch, changes.verdicts)
        return left

    async def _one_by_one(self, arrived: ReceivedBatch) -> bytes:
        """Write each event in a savepoint, so that only the event that causes a failure suffers."""
        async with self._db.pipeline() as pipeline:
            lane, _ = await read(pipeline, arrived.lane, rows_needed([]), Rows())
            told = _previous_verdicts(arrived, lane)
            if told is None:
                verdicts = [await self._write_alone(pipeline, event) for event in arrived.events]
                told = _mark(pipeline, arrived, verdicts, lane).verdicts
                await self._report(pipeline, arrived.batch, verdicts)
        return told

    async def _write_alone(self, pipeline: Pipeline, event: Event | ServiceError) -> ServiceError | None:
        try:
            async with savepoint(pipeline):
                rows = await read_rows(pipeline, rows_needed([event]), Rows())
                changes = fold_batch([event], rows, self._storage)
                await self._offload(changes)
                write_rows(pipeline, changes)
        except _PART_DOWN:
            raise
        except ServiceError as error:
            return error
        except Exception as error:  # noqa: BLE001  # reported with its cause, see _report
            failed = Internal("the event could not be applied")
            failed.__cause__ = error
            return failed
        return changes.verdicts[0]

    async def _offload(self, changes: Changes) -> None:
        """Write the objects that the new state names; state must never name an object that is not there."""
        if changes.offloads:
            objects = {offload.uri: offload.data for offload in changes.offloads}
            await asyncio.gather(*(self._objects.put(uri, data) for uri, data in objects.items()))

    async def _report(self, pipeline: Pipeline, batch: Batch, verdicts: Verdicts) -> None:
        """Count verdicts, and say what is refused: callers may have been told that all is well."""
        for code, count in Tally(Code.OK if error is None else error.code for error in verdicts).items():
            VERDICTS.labels(code.name).inc(count)
        refused = [(at, error) for at, error in enumerate(verdicts) if not isinstance(error, AlreadyExists | None)]
        if refused:
            await pipeline.run()  # which begins the transaction, if nothing has been read
        for position, error in refused:
            if error.__cause__ is not None:
                log.error("an event failed", exc_info=error.__cause__, extra={"batch": batch.id, "position": position})
            said = refusal(Refusal(batch.id, position, batch.events[position], to_status(error)))
            await self._outbox.put(pipeline.connection, EVENT_REFUSED, said)


def _mark(pipeline: Pipeline, arrived: ReceivedBatch, verdicts: Verdicts, before: LaneCursor) -> LaneCursor:
    """Mark the lane, which is at `before`, as left by this batch; answers the mark."""
    encode_frame = encode_verdicts(arrived.batch.id, list(map(verdict, verdicts)))
    left = LaneCursor(encode_frame, arrived.sequence, arrived.stored_at)
    mark_lane(pipeline, arrived.lane, left, before)
    return left


def _previous_verdicts(arrived: ReceivedBatch, lane: LaneCursor) -> bytes | None:
    """The verdicts of a batch that was applied before, empty when a later one has replaced them; None for a new one."""
    if lane.verdicts and decode_verdicts(lane.verdicts).id == arrived.batch.id:
        return lane.verdicts
    if lane.is_past(arrived.sequence, arrived.stored_at):
        log.warning("a batch of events came again after its successor", extra={"batch": arrived.batch.id})
        return b""
    return None
