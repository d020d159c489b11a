"""The end of terminated executions whose engine does not confirm it (executions.md#end-of-a-terminated-execution).

The engine may be gone, or may never have received the execution, which would stay ABORTING. The reconciler makes the
event that the engine would have sent, and folds it by the same rules under the same lock. An event of the engine that
comes first wins; one that comes later gets the verdict that the execution has ended.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.event.event_pb2 import WorkflowExecutionEvent
from prometheus_client import Counter

from services.executions.engine.children import terminate_children
from services.executions.jobs.rounds import run_rounds
from services.executions.rules.events.batch import Changes
from services.executions.rules.events.layout import ObjectLayout
from services.executions.rules.events.state import ExecutionKey, ExecutionState, Offloads
from services.executions.rules.events.workflow import fold_workflow
from services.executions.store.endings import lock_execution, lock_overdue, postpone
from services.executions.store.event_rows import savepoint, write_rows
from services.kit.db.database import Database
from services.kit.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from services.kit.messaging.outbox import Outbox

log = logging.getLogger(__name__)

# Executions per transaction; the next ones follow without a pause.
_MOST_EXECUTIONS = 100
_LONGEST_PAUSE_SECONDS = 15.0

# The database or NATS is unavailable, so the error is not about one of the executions.
_UNAVAILABLE = (Unavailable, DeadlineExceeded, ResourceExhausted)

ABORTED = Counter("flyteplane_executions_aborted_unconfirmed_total", "Terminated executions ended without their engine")


class AbortReconciler:
    """The job of one replica; replicas skip executions that another one has locked."""

    def __init__(
        self, db: Database, outbox: Outbox, layout: ObjectLayout, *, patience: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._db = db
        self._outbox = outbox
        self._layout = layout
        self._patience = patience
        self._clock = clock

    async def run(self) -> None:
        """End overdue executions, round after round, until cancelled."""
        await run_rounds(
            self._end_all_overdue,
            patience=self._patience,
            longest_pause_seconds=_LONGEST_PAUSE_SECONDS,
            failure="terminated executions cannot be ended yet",
        )

    async def _end_all_overdue(self) -> None:
        while await self.end_overdue() == _MOST_EXECUTIONS:
            pass

    async def end_overdue(self) -> int:
        """End executions that have been ABORTING for the patience, `_MOST_EXECUTIONS` at most.

        One that cannot be written waits for the patience again, and does not delay the others.

        Returns:
            The number of executions ended.

        Raises:
            ServiceError: The database is unavailable; nothing is changed.
        """
        now = self._clock()
        try:
            overdue = await self._end(now)
        except _UNAVAILABLE:
            raise
        except Exception:
            log.warning("terminated executions are ended one by one", exc_info=True)
            overdue = await self._end_one_by_one(now)
        for state in overdue:
            log.warning("execution ended without an event of its engine", extra={"execution": "/".join(state.key)})
        ABORTED.inc(len(overdue))
        return len(overdue)

    async def end(self, key: ExecutionKey) -> None:
        """End an execution that its engine does not have, if it is ABORTING; raises a ServiceError."""
        async with self._db.pipeline() as pipeline:
            state = await lock_execution(pipeline, key)
            if state is not None and state.closure.phase == WorkflowExecution.ABORTING:
                write_rows(pipeline, self._ended([state], self._clock()))
                await terminate_children(pipeline, self._outbox, [key])

    async def _end(self, now: datetime) -> list[ExecutionState]:
        async with self._db.pipeline() as pipeline:
            overdue = await lock_overdue(pipeline, now - self._patience, _MOST_EXECUTIONS)
            if overdue:
                write_rows(pipeline, self._ended(overdue, now))
                await terminate_children(pipeline, self._outbox, [state.key for state in overdue])
        return overdue

    async def _end_one_by_one(self, now: datetime) -> list[ExecutionState]:
        ended = []
        async with self._db.pipeline() as pipeline:
            for state in await lock_overdue(pipeline, now - self._patience, _MOST_EXECUTIONS):
                try:
                    async with savepoint(pipeline):
                        write_rows(pipeline, self._ended([state], now))
                        await terminate_children(pipeline, self._outbox, [state.key])
                except _UNAVAILABLE:
                    raise
                except Exception:
                    log.exception("execution cannot be ended", extra={"execution": "/".join(state.key)})
                    postpone(pipeline, state.key)
                else:
                    ended.append(state)
        return ended

    def _ended(self, overdue: Sequence[ExecutionState], now: datetime) -> Changes:
        changes = Changes()
        for state in overdue:
            event = WorkflowExecutionEvent(phase=WorkflowExecution.ABORTED, producer_id=state.cluster)
            event.occurred_at.FromDatetime(now)
            changes.executions[state.key] = fold_workflow(state, event, self._layout, Offloads())
        return changes
