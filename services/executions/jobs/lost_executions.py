"""The end of executions that no longer change and whose engine does not have them (engine.md#executions-without-news).

A resource was deleted by hand, a namespace was removed, or a cluster was replaced: such executions would stay RUNNING.
One that never started is submitted to the engine once more; one that did is FAILED with a system error. One that the
engine has is not changed, however long it takes.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.event.event_pb2 import WorkflowExecutionEvent
from prometheus_client import Counter

from services.executions.engine.children import terminate_children
from services.executions.engine.dispatcher import EngineDispatcher
from services.executions.engine.interface import Engine, lost
from services.executions.jobs.rounds import run_rounds
from services.executions.rules.events.batch import Changes
from services.executions.rules.events.layout import ObjectLayout
from services.executions.rules.events.state import ExecutionKey, ExecutionState, Offloads, execution_key
from services.executions.rules.events.workflow import fold_workflow
from services.executions.rules.placements import Placement
from services.executions.store.endings import lock_unchanged, unchanged_executions
from services.executions.store.event_rows import write_rows
from services.executions.store.run_requests import get_placements
from services.kit.db.database import Database
from services.kit.messaging.outbox import Outbox

log = logging.getLogger(__name__)

# Executions in one call to the engine, which lists what it has.
_MOST_EXECUTIONS = 2000
# Executions whose specs are read together: one has a few kilobytes, or four megabytes.
_MOST_SPECS = 20
# Executions that are ended in one transaction.
_MOST_ENDED = 100
_LONGEST_PAUSE_SECONDS = 300.0

Item = TypeVar("Item")

LOST = Counter("flyteplane_executions_lost_total", "Executions that their engine no longer had")


class LostExecutions:
    """The job of one replica; replicas may find the same executions, and one of them ends each."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        dispatcher: EngineDispatcher,
        outbox: Outbox,
        *,
        layout: ObjectLayout,
        patience: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._engine = engine
        self._dispatcher = dispatcher
        self._outbox = outbox
        self._layout = layout
        self._patience = patience
        self._clock = clock

    async def run(self) -> None:
        """Check executions, round after round, until cancelled."""
        await run_rounds(
            self.check,
            patience=self._patience,
            longest_pause_seconds=_LONGEST_PAUSE_SECONDS,
            failure="executions that do not change are checked later",
        )

    async def check(self) -> None:
        """Check all executions that have not changed for the patience; raises the errors of engine and database."""
        before = self._clock() - self._patience
        async with self._db.pipeline() as pipeline:
            keys = await unchanged_executions(pipeline, before)
        for some in _batched(keys, _MOST_EXECUTIONS):
            missing = await self._engine.missing(await self._placements(some))
            for ended in _batched(missing, _MOST_ENDED):
                await self._end([execution_key(placement.id) for placement in ended], before)

    async def _placements(self, keys: Sequence[ExecutionKey]) -> list[Placement]:
        placements: list[Placement] = []
        async with self._db.read() as connection:
            for some in _batched(keys, _MOST_SPECS):
                placements += await get_placements(connection, [_identifier(key) for key in some])
        return placements

    async def _end(self, missing: list[ExecutionKey], before: datetime) -> None:
        async with self._db.pipeline() as pipeline:
            states = await lock_unchanged(pipeline, before, missing)
            unstarted = [state.key for state in states if state.closure.phase == WorkflowExecution.UNDEFINED]
            ended = {state.key: self._lost(state) for state in states if state.key not in unstarted}
            write_rows(pipeline, Changes(executions=ended))
            await terminate_children(pipeline, self._outbox, list(ended))
        for key in ended:
            log.error("execution is lost: its engine does not have it", extra={"execution": "/".join(key)})
        LOST.inc(len(ended))
        for key in unstarted:
            # An engine that is unavailable again does not end it: it is missing in the next round, too.
            await self._dispatcher.submit(_identifier(key), last=False)

    def _lost(self, state: ExecutionState) -> ExecutionState:
        event = WorkflowExecutionEvent(phase=WorkflowExecution.FAILED, producer_id=state.cluster, error=lost())
        event.occurred_at.FromDatetime(self._clock())
        return fold_workflow(state, event, self._layout, Offloads())


def _identifier(key: ExecutionKey) -> WorkflowExecutionIdentifier:
    return WorkflowExecutionIdentifier(**key._asdict())


def _batched(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    """Yield `items` in slices of `most`; `itertools.batched` is not in Python 3.11."""
    for start in range(0, len(items), most):
        yield items[start : start + most]
