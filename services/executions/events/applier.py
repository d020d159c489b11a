"""The application of a batch of events: read, fold, write, in one transaction.

A batch is applied once: its verdicts are stored with its changes, and returned when it is delivered again. One that is
delivered again after its successor, as to a replica that stalled, changes nothing either
(docs/decisions/0005-batches-are-applied-once.md).
"""

import asyncio
import logging
import time
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cachetools import FIFOCache
from prometheus_client import Counter, Histogram

from services.contracts.applied_batches import AppliedBatch
from services.contracts.event_batches import (
    EVENT_LANES,
    Batch,
    Refusal,
    decode_verdicts,
    encode_refusal,
    encode_verdicts,
    verdict,
)
from services.contracts.executions import EVENT_REFUSED
from services.executions.events.row_cache import RowCache
from services.executions.rules.events.batch import BatchFold, Changes, Event, Rows, RowsNeeded, fold_batch, rows_needed
from services.executions.rules.events.lane_cursor import LaneCursor
from services.executions.rules.events.layout import ObjectLayout
from services.executions.store.applied_batches import put_applied_batch, storable_id
from services.executions.store.event_rows import (
    lock_lane_and_read,
    move_cursor,
    read_rows,
    savepoint,
    write_rows,
)
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

# The database or the object store is down or overloaded: the batch waits. Any other failure is caused by one of its
# events, or by a cached cursor that another replica has moved on from; applying the events one by one mends both.
_DEPENDENCY_DOWN = (Unavailable, DeadlineExceeded, ResourceExhausted)

# A turn of the event loop that folds events. A usual batch takes some milliseconds, as does an event of a large row.
_TURN_SECONDS = 0.01

# Of the events of a batch, in order: an error, or None for OK. A verdict is an outcome as a serialized status.
Outcomes = Sequence[ServiceError | None]
# A direct batch whose reply was late comes again through the stream, when a few others have been applied.
_REMEMBERED_FRAMES = 64

EVENT_VERDICTS_TOTAL = Counter("flyteplane_event_verdicts_total", "Events by what became of them", ["code"])
TRANSACTION_SECONDS = Histogram(
    "flyteplane_event_transaction_seconds",
    "Time to read, fold and commit the events of one transaction",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
BATCH_AGE = Histogram(
    "flyteplane_event_batch_age_seconds",
    "From storing a batch in the stream until its commit; long after an outage of executions or its database",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600),
)


@dataclass(frozen=True)
class StoredBatch:
    """The position of a batch that came through the stream."""

    sequence: int
    stored_at: datetime


@dataclass(frozen=True)
class DirectBatch:
    """What a batch that came directly from its sender requires."""

    after: int
    """The number of the sender's batch that must have been applied before it, 0 for none."""
    received_at: datetime


@dataclass(frozen=True)
class ReceivedBatch:
    """A batch of a lane with its parsed events; an event that could not be read is an error, its outcome."""

    lane: int
    batch: Batch
    events: Sequence[Event | ServiceError]
    payload: bytes  # the framed batch
    fingerprints: bytes | None
    source: StoredBatch | DirectBatch


class EventApplier:
    """Applies batches to the database, those of a lane in order."""

    def __init__(self, db: Database, objects: ObjectStore, outbox: Outbox, layout: ObjectLayout) -> None:
        self._db = db
        self._objects = objects
        self._outbox = outbox
        self._layout = layout
        self._caches = [RowCache() for _ in range(EVENT_LANES)]
        self._frames: FIFOCache[str, bytes] = FIFOCache(_REMEMBERED_FRAMES)

    async def apply(self, received: ReceivedBatch) -> bytes:
        """Apply a batch, one of a lane at a time.

        Returns:
            Its framed verdicts; empty when the batch was applied before and its verdicts are not known any more. A
            direct batch that comes too early is not applied and has a frame without verdicts.

        Raises:
            ServiceError: The database or the object store is down; the batch has changed nothing.
        """
        try:
            with TRANSACTION_SECONDS.time():
                verdicts = await self._apply_together(received)
        except _DEPENDENCY_DOWN:
            raise
        except Exception:
            log.warning("a batch is applied one by one", extra={"batch": received.batch.id}, exc_info=True)
            verdicts = await self._apply_one_by_one(received)
        if isinstance(received.source, StoredBatch):
            BATCH_AGE.observe(max(0.0, (datetime.now(UTC) - received.source.stored_at).total_seconds()))
        if verdicts:
            self._frames[received.batch.id] = verdicts
        return verdicts

    async def log_unreadable(self, lane: int, sequence: int, stored_at: datetime, payload: bytes) -> None:
        """Store a batch that cannot be read for the event log; raise ServiceError while the database is down."""
        async with self._db.pipeline() as pipeline:
            row = AppliedBatch(0, lane, stored_at, _unreadable_id(sequence), None, payload, b"")
            put_applied_batch(pipeline, row)

    async def _apply_together(self, received: ReceivedBatch) -> bytes:
        """Apply all events in one step, unless the batch was applied before, and return the framed verdicts."""
        cache = self._caches[received.lane]
        needed = rows_needed(received.events)
        try:
            async with self._db.pipeline() as pipeline:
                before = self._cached_cursor(received, needed) or await self._read(pipeline, received.lane, needed)
                previous = self._known_verdicts(received, before)
                cursor = before if previous is not None else await self._write(pipeline, received, before)
        except BaseException:
            cache.clear()
            raise
        cache.store(needed, cursor)
        return cursor.verdict_frame if previous is None else previous

    def _cached_cursor(self, received: ReceivedBatch, needed: RowsNeeded) -> LaneCursor | None:
        """Return the cached cursor if the batch is the next one and all its rows are cached.

        Nothing is read then: the batch is written in one round trip, which fails if the stored cursor is another one.
        """
        cache = self._caches[received.lane]
        cursor = cache.cursor
        if cursor is None or not cache.covers(needed):
            return None
        source = received.source
        return cursor if isinstance(source, DirectBatch) or cursor.sequence + 1 == source.sequence else None

    async def _read(self, pipeline: Pipeline, lane: int, needed: RowsNeeded) -> LaneCursor:
        """Lock the lane and read the rows that are not cached; all of them if another replica has moved the cursor."""
        cache = self._caches[lane]
        cursor, rows = await lock_lane_and_read(pipeline, lane, cache.missing_rows(needed), cache.rows)
        if cache.cursor is not None and cache.cursor != cursor:
            cache.clear()
            rows = await read_rows(pipeline, needed, cache.rows)
        cache.rows.add(rows)
        return cursor

    async def _write(self, pipeline: Pipeline, received: ReceivedBatch, before: LaneCursor) -> LaneCursor:
        """Fold and write a new batch, move the cursor from `before` and return the new one."""
        changes = await self._fold(received, self._caches[received.lane].rows)
        await self._offload(changes)
        cursor = _advance_lane(pipeline, received, changes.outcomes, before)
        write_rows(pipeline, changes)
        await self._report(pipeline, received.batch, changes.outcomes)
        return cursor

    async def _fold(self, received: ReceivedBatch, rows: Rows) -> Changes:
        """Fold a batch; other work of the event loop runs in between when it takes long.

        No other batch is folded over `rows` meanwhile. After a cancellation a thread may still change them: the caller
        drops them then.
        """
        fold = BatchFold(rows, self._layout)
        began = time.perf_counter()
        for event, batched in zip(received.events, received.batch.events, strict=True):
            if batched.by_reference:
                await asyncio.to_thread(fold.apply, event)
            else:
                fold.apply(event)
            if time.perf_counter() - began > _TURN_SECONDS:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return fold.changes

    async def _apply_one_by_one(self, received: ReceivedBatch) -> bytes:
        """Write each event in a savepoint: a failure refuses only the event that causes it."""
        async with self._db.pipeline() as pipeline:
            before, _ = await lock_lane_and_read(pipeline, received.lane, rows_needed([]), Rows())
            previous = self._known_verdicts(received, before)
            if previous is not None:
                return previous
            outcomes = [await self._write_event(pipeline, event) for event in received.events]
            cursor = _advance_lane(pipeline, received, outcomes, before)
            await self._report(pipeline, received.batch, outcomes)
        return cursor.verdict_frame

    async def _write_event(self, pipeline: Pipeline, event: Event | ServiceError) -> ServiceError | None:
        try:
            async with savepoint(pipeline):
                rows = await read_rows(pipeline, rows_needed([event]), Rows())
                changes = fold_batch([event], rows, self._layout)
                await self._offload(changes)
                write_rows(pipeline, changes)
        except _DEPENDENCY_DOWN:
            raise
        except ServiceError as error:
            return error
        except Exception as error:  # noqa: BLE001  # reported with its cause, see _report
            failed = Internal("the event could not be applied")
            failed.__cause__ = error
            return failed
        return changes.outcomes[0]

    def _known_verdicts(self, received: ReceivedBatch, cursor: LaneCursor) -> bytes | None:
        """Return the framed verdicts of a batch that is not to be applied (again); None for one that is."""
        identifier, source = received.batch.id, received.source
        if cursor.verdict_frame and decode_verdicts(cursor.verdict_frame).id == identifier:
            return cursor.verdict_frame
        past = isinstance(source, StoredBatch) and cursor.is_past(source.sequence, source.stored_at)
        if past or cursor.has_applied(identifier):
            log.warning("a batch of events came again after its successor", extra={"batch": identifier})
            return self._frames.get(identifier, b"")
        if isinstance(source, DirectBatch) and not cursor.reaches(identifier, source.after):
            return encode_verdicts(identifier, ())
        return None

    async def _offload(self, changes: Changes) -> None:
        """Write the objects that the new state names, before it: they must exist when it is committed."""
        if changes.offloads:
            objects = {offload.uri: offload.data for offload in changes.offloads}
            await asyncio.gather(*(self._objects.put(uri, data) for uri, data in objects.items()))

    async def _report(self, pipeline: Pipeline, batch: Batch, outcomes: Outcomes) -> None:
        """Count the outcomes and announce refused events, whose callers may have received OK."""
        for code, count in Tally(Code.OK if error is None else error.code for error in outcomes).items():
            EVENT_VERDICTS_TOTAL.labels(code.name).inc(count)
        refused = [
            (position, error) for position, error in enumerate(outcomes) if not isinstance(error, AlreadyExists | None)
        ]
        if refused:
            await pipeline.run()  # begins the transaction, if nothing has been read
        for position, error in refused:
            if error.__cause__ is not None:
                log.error("an event failed", exc_info=error.__cause__, extra={"batch": batch.id, "position": position})
            message = encode_refusal(Refusal(batch.id, position, batch.events[position], to_status(error)))
            await self._outbox.put(pipeline.connection, EVENT_REFUSED, message)


def _advance_lane(pipeline: Pipeline, received: ReceivedBatch, outcomes: Outcomes, before: LaneCursor) -> LaneCursor:
    """Move the lane's cursor from `before` to this batch, with its verdicts, and return the new cursor."""
    identifier, source = received.batch.id, received.source
    frame = encode_verdicts(identifier, list(map(verdict, outcomes)))
    if isinstance(source, DirectBatch):
        cursor = before.after_direct_batch(identifier, frame)
    else:
        cursor = before.after_stored_batch(identifier, frame, source.sequence, source.stored_at)
    move_cursor(pipeline, received.lane, cursor, before)
    put_applied_batch(pipeline, _for_log(received, frame))
    return cursor


def _for_log(received: ReceivedBatch, verdicts: bytes) -> AppliedBatch:
    source = received.source
    if isinstance(source, StoredBatch):
        received_at, own_id = source.stored_at, _unreadable_id(source.sequence)
    else:
        received_at = source.received_at
        own_id = f"unreadable-direct-{received_at.timestamp()}"
    batch_id = storable_id(received.batch.id, own_id)
    return AppliedBatch(0, received.lane, received_at, batch_id, received.fingerprints, received.payload, verdicts)


def _unreadable_id(sequence: int) -> str:
    """Return the event log's own id for a batch of the stream whose id cannot be read or stored."""
    return f"unreadable-{sequence}"
