"""Applies batches of events: read, fold, write in one transaction for all batches that wait (architecture, section 3).

Batches collect while a transaction is under way, as events do in their lanes: by nothing but the work itself, never by
a timer, so a lone batch waits for nobody. There is one transaction at a time, unless it is held up: a second one beside
it makes both smaller and costs a tenth more for each event (measured on two cores). A batch is applied once: its
verdicts are stored with what it changed, and when it comes again they are given again. One that comes again after its
successor, as from a replica that stood still, changes nothing either (docs/decisions/0005-batches-are-applied-once.md).
"""

import asyncio
import logging
from collections import Counter as Tally
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

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
from services.executions.rules.events.batch import Changes, Event, Rows, Wanted, fold_batch, united, wanted
from services.executions.rules.events.memory import LaneMemory
from services.executions.rules.events.storage import Storage
from services.executions.store.event_rows import Lane, mark_lanes, read, read_rows, savepoint, write_rows
from services.kit.db import Database
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
from services.kit.objects import ObjectStore
from services.kit.outbox import Outbox
from services.kit.pipeline import Pipeline

log = logging.getLogger(__name__)

# A part is down or overloaded: the batch waits. Any other failure of a write is the fault of one of its events.
_PART_DOWN = (Unavailable, DeadlineExceeded, ResourceExhausted)

# A transaction that takes this long is held up, by a user who holds an execution's row or by an object store: others
# need not wait for it. Ten times what one takes under load.
_HELD_UP_SECONDS = 0.5
# Events of one transaction at most, some 50 ms: far from the statement time-out, and the first caller waits for the
# last event of it.
_MOST_EVENTS = 1024

Verdicts = Sequence[ServiceError | None]

VERDICTS = Counter("flyteplane_event_verdicts_total", "Events by what became of them", ["code"])
TRANSACTION_EVENTS = Histogram(
    "flyteplane_event_transaction_events", "Events in one transaction", buckets=(1, 4, 16, 64, 256, 1024)
)
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


@dataclass(frozen=True, eq=False)
class Arrived:
    """A batch of a lane with its events read; what could not be read is its verdict."""

    lane: int
    sequence: int  # of the stream
    stored_at: datetime  # by the stream
    batch: Batch
    events: Sequence[Event | ServiceError]
    verdicts: asyncio.Future[bytes] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class EventApplier:
    """Brings batches of different lanes into the database, in one order a lane."""

    def __init__(self, db: Database, objects: ObjectStore, outbox: Outbox, storage: Storage) -> None:
        self._db = db
        self._objects = objects
        self._outbox = outbox
        self._storage = storage
        self._memories = [LaneMemory() for _ in range(EVENT_LANES)]
        self._waiting: deque[Arrived] = deque()
        self._appliers: set[asyncio.Task[None]] = set()

    async def apply(self, arrived: Arrived) -> bytes:
        """Apply a batch with whatever waits beside it; answers its verdicts, framed; nothing when they are forgotten.

        A lane may have one batch here at a time. Raises a ServiceError while a part is down.
        """
        self._waiting.append(arrived)
        if not self._appliers:
            self._start()
        return await arrived.verdicts

    def _start(self) -> None:
        if self._waiting:
            task = asyncio.create_task(self._apply_waiting())
            self._appliers.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._appliers.discard(task)
        if not self._appliers:
            self._start()

    async def _apply_waiting(self) -> None:
        """Apply until nothing waits; or, after being held up, until another one is there to go on."""
        while self._waiting:
            together = [self._waiting.popleft()]
            events = len(together[0].events)
            while self._waiting and events + len(self._waiting[0].events) <= _MOST_EVENTS:
                together.append(self._waiting.popleft())
                events += len(together[-1].events)
            relief = asyncio.get_running_loop().call_later(_HELD_UP_SECONDS, self._start)
            try:
                await self._apply_together(together)
            finally:
                relief.cancel()
                for arrived in together:  # whatever happened, nobody waits for ever
                    _fail(arrived, Unavailable("the batch was not applied"))
            if len(self._appliers) > 1:
                return

    async def _apply_together(self, together: Sequence[Arrived]) -> None:
        try:
            with TRANSACTION_SECONDS.time():
                told = await self._in_one_transaction(together)
        except _PART_DOWN as error:
            for arrived in together:
                _fail(arrived, error)
        except Exception:
            if len(together) > 1:
                for arrived in together:
                    await self._apply_together([arrived])
                return
            log.warning("a batch is applied one by one", extra={"batch": together[0].batch.id}, exc_info=True)
            await self._apply_one_by_one(together[0])
        else:
            TRANSACTION_EVENTS.observe(sum(len(arrived.events) for arrived in together))
            for arrived, verdicts in zip(together, told, strict=True):
                _tell(arrived, verdicts)

    async def _in_one_transaction(self, together: Sequence[Arrived]) -> list[bytes]:
        """Apply new batches; answers the verdicts of all."""
        needs = [wanted(arrived.events) for arrived in together]
        memories = [self._memories[arrived.lane] for arrived in together]
        try:
            async with self._db.pipeline() as pipeline:
                lanes, rows = await self._rows(pipeline, together, needs)
                told = [_told_before(arrived, lanes[arrived.lane]) for arrived in together]
                new = [arrived for arrived, known in zip(together, told, strict=True) if known is None]
                left = await self._write(pipeline, new, rows)
        except BaseException:
            for memory in memories:
                memory.forget()
            raise
        for arrived, need, memory in zip(together, needs, memories, strict=True):
            if arrived.lane in left:
                memory.keep(need, rows, left[arrived.lane])
        return [
            left[arrived.lane].verdicts if known is None else known
            for arrived, known in zip(together, told, strict=True)
        ]

    async def _rows(
        self, pipeline: Pipeline, together: Sequence[Arrived], needs: Sequence[Wanted]
    ) -> tuple[dict[int, Lane], Rows]:
        """Lock the lanes and read what is not remembered; all of it when another replica had one of them meanwhile."""
        memories = [self._memories[arrived.lane] for arrived in together]
        rows = Rows()
        missing = united([memory.recall(need, rows) for memory, need in zip(memories, needs, strict=True)])
        lanes, found = await read(pipeline, [arrived.lane for arrived in together], missing, rows)
        for arrived, memory in zip(together, memories, strict=True):
            if memory.left not in {None, lanes[arrived.lane]}:
                for each in memories:
                    each.forget()
                return lanes, await read_rows(pipeline, united(needs), Rows())
        rows.add(found)
        return lanes, rows

    async def _write(self, pipeline: Pipeline, new: Sequence[Arrived], rows: Rows) -> dict[int, Lane]:
        """Fold and write `new` batches; answers where they leave their lanes."""
        changes = fold_batch([event for arrived in new for event in arrived.events], rows, self._storage)
        await self._offload(changes)
        write_rows(pipeline, changes)
        verdicts = iter(changes.verdicts)
        left = {
            arrived.lane: await self._mark(pipeline, arrived, list(islice(verdicts, len(arrived.events))))
            for arrived in new
        }
        mark_lanes(pipeline, left)
        return left

    async def _apply_one_by_one(self, arrived: Arrived) -> None:
        """Write each event in a savepoint, so that only the event that causes a failure suffers."""
        try:
            async with self._db.pipeline() as pipeline:
                lanes, _ = await read(pipeline, [arrived.lane], wanted([]), Rows())
                told = _told_before(arrived, lanes[arrived.lane])
                if told is None:
                    verdicts = [await self._write_alone(pipeline, event) for event in arrived.events]
                    mark = await self._mark(pipeline, arrived, verdicts)
                    mark_lanes(pipeline, {arrived.lane: mark})
                    told = mark.verdicts
        except Exception as error:  # noqa: BLE001  # the consumer logs it and brings the batch again
            _fail(arrived, error)
        else:
            _tell(arrived, told)

    async def _write_alone(self, pipeline: Pipeline, event: Event | ServiceError) -> ServiceError | None:
        try:
            async with savepoint(pipeline):
                rows = await read_rows(pipeline, wanted([event]), Rows())
                changes = fold_batch([event], rows, self._storage)
                await self._offload(changes)
                write_rows(pipeline, changes)
        except _PART_DOWN:
            raise
        except ServiceError as error:
            return error
        except Exception as error:  # noqa: BLE001  # reported with its cause, see _mark
            failed = Internal("the event could not be applied")
            failed.__cause__ = error
            return failed
        return changes.verdicts[0]

    async def _offload(self, changes: Changes) -> None:
        """Write the objects that the new state names; state must never name an object that is not there."""
        if changes.offloads:
            objects = {offload.uri: offload.data for offload in changes.offloads}
            await asyncio.gather(*(self._objects.put(uri, data) for uri, data in objects.items()))

    async def _mark(self, pipeline: Pipeline, arrived: Arrived, verdicts: Verdicts) -> Lane:
        """What is kept of a batch. Refused events are also said: their callers may have been told that all is well."""
        batch = arrived.batch
        for code, count in Tally(Code.OK if error is None else error.code for error in verdicts).items():
            VERDICTS.labels(code.name).inc(count)
        for position, error in enumerate(verdicts):
            if error is None or isinstance(error, AlreadyExists):
                continue
            if error.__cause__ is not None:
                log.error("an event failed", exc_info=error.__cause__, extra={"batch": batch.id, "position": position})
            refused = Refusal(batch.id, position, batch.events[position], to_status(error))
            await self._outbox.put(pipeline.connection, EVENT_REFUSED, refusal(refused))
        framed = encode_verdicts(batch.id, list(map(verdict, verdicts)))
        return Lane(framed, arrived.sequence, arrived.stored_at)


def _told_before(arrived: Arrived, lane: Lane) -> bytes | None:
    """The verdicts of a batch that was applied before, empty when a later one has replaced them; None for a new one."""
    if lane.verdicts and decode_verdicts(lane.verdicts).id == arrived.batch.id:
        return lane.verdicts
    if lane.is_past(arrived.sequence, arrived.stored_at):
        log.warning("a batch of events came again after its successor", extra={"batch": arrived.batch.id})
        return b""
    return None


def _tell(arrived: Arrived, verdicts: bytes) -> None:
    BATCH_AGE.observe(max(0.0, (datetime.now(UTC) - arrived.stored_at).total_seconds()))
    if not arrived.verdicts.done():
        arrived.verdicts.set_result(verdicts)


def _fail(arrived: Arrived, error: Exception) -> None:
    if not arrived.verdicts.done():
        arrived.verdicts.set_exception(error)
