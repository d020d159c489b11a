"""Ends executions that were terminated and whose engine never says that they have ended (executions.md 4.3).

The engine may be gone, or never have taken the execution up; without this it would be ABORTING for ever. What ends it
is an event as an engine would have sent it, folded by the same rules under the same lock; an engine's own that comes
first wins, and one that comes later is told that the execution is over.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.event.event_pb2 import WorkflowExecutionEvent
from prometheus_client import Counter

from services.executions.consumers.children import terminate_children
from services.executions.rules.events.batch import Changes
from services.executions.rules.events.state import ExecutionKey, ExecutionState, Offloads
from services.executions.rules.events.storage import Storage
from services.executions.rules.events.workflow import fold_workflow
from services.executions.store.endings import postpone, take, take_overdue
from services.executions.store.event_rows import savepoint, write_rows
from services.kit.db.database import Database
from services.kit.errors import DeadlineExceeded, ResourceExhausted, ServiceError, Unavailable
from services.kit.messaging.outbox import Outbox

log = logging.getLogger(__name__)

# Executions of one transaction; the rest follows at once.
_MOST = 100
# Of the patience passes between two looks, so nobody waits much longer than it says; but not less than a second.
_SHARE = 0.25
_SHORTEST_SECONDS = 1.0
_LONGEST_SECONDS = 15.0

# Nothing is wrong with any of the executions.
_PART_DOWN = (Unavailable, DeadlineExceeded, ResourceExhausted)

ABORTED = Counter("flyteplane_executions_aborted_unconfirmed_total", "Terminated executions ended without their engine")


class AbortReconciler:
    """One replica's part; replicas pass over what another one holds."""

    def __init__(
        self, db: Database, outbox: Outbox, storage: Storage, *, patience: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._db = db
        self._outbox = outbox
        self._storage = storage
        self._patience = patience
        self._clock = clock

    async def run(self) -> None:
        """Look for ever; a database that is away is waited for, and nothing that one row holds ends the loop."""
        pause = min(max(self._patience.total_seconds() * _SHARE, _SHORTEST_SECONDS), _LONGEST_SECONDS)
        while True:
            try:
                while await self.end_overdue() == _MOST:
                    pass
            except ServiceError as error:
                log.warning("terminated executions wait: %s", error.message)
            except Exception:
                log.exception("terminated executions wait")
            await asyncio.sleep(pause)

    async def end_overdue(self) -> int:
        """End executions whose engines had time enough; answers how many were looked at.

        One that cannot be written waits as long again and holds up no other. Raises a ServiceError when a part is down,
        with none changed.
        """
        now = self._clock()
        try:
            overdue = await self._end(now)
        except _PART_DOWN:
            raise
        except Exception:
            log.warning("terminated executions are ended one by one", exc_info=True)
            overdue = await self._end_one_by_one(now)
        for state in overdue:
            log.warning("execution ended without a word of its engine", extra={"execution": "/".join(state.key)})
        ABORTED.inc(len(overdue))
        return len(overdue)

    async def end(self, key: ExecutionKey) -> None:
        """End an execution whose engine does not have it, if it is ABORTING; raises a ServiceError."""
        async with self._db.pipeline() as pipeline:
            state = await take(pipeline, key)
            if state is not None and state.closure.phase == WorkflowExecution.ABORTING:
                write_rows(pipeline, self._ended([state], self._clock()))
                await terminate_children(pipeline, self._outbox, [key])

    async def _end(self, now: datetime) -> list[ExecutionState]:
        async with self._db.pipeline() as pipeline:
            overdue = await take_overdue(pipeline, now - self._patience, _MOST)
            if overdue:
                write_rows(pipeline, self._ended(overdue, now))
                await terminate_children(pipeline, self._outbox, [state.key for state in overdue])
        return overdue

    async def _end_one_by_one(self, now: datetime) -> list[ExecutionState]:
        ended = []
        async with self._db.pipeline() as pipeline:
            for state in await take_overdue(pipeline, now - self._patience, _MOST):
                try:
                    async with savepoint(pipeline):
                        write_rows(pipeline, self._ended([state], now))
                        await terminate_children(pipeline, self._outbox, [state.key])
                except _PART_DOWN:
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
            changes.executions[state.key] = fold_workflow(state, event, self._storage, Offloads())
        return changes
