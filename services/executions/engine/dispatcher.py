"""Hands executions to the engine: to be run when they are created, to be stopped when they are terminated.

A fact brings an execution up, at least once; what is done then is what its phase asks for by now, again and again until
it asks for nothing else. So it does not matter which of two facts comes first, or twice, or to which replica, nor where
a process was killed. While the engine cannot be asked, a launch waits for `patience` and is then FAILED with the
engine's last word; a stop is never given up, as what runs on without anybody knowing costs money.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from prometheus_client import Counter, Histogram

from services.contracts.executions import EXECUTION_CREATED
from services.executions.config import Settings
from services.executions.engine.inputs import engine_inputs
from services.executions.engine.port import Engine, EngineAction, RunRequest, engine_action, refused
from services.executions.jobs.unconfirmed_aborts import AbortReconciler
from services.executions.rules.events.batch import Changes
from services.executions.rules.events.state import execution_key
from services.executions.store.endings import take
from services.executions.store.engine_inputs import StoredWork, get_phase, get_work
from services.executions.store.event_rows import write_rows
from services.kit.db.database import Database
from services.kit.errors import DeadlineExceeded, ResourceExhausted, ServiceError, Unavailable
from services.kit.messaging.batch_consumer import BatchConsumer, Fetched
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of

log = logging.getLogger(__name__)

DURABLE = "engine"
# Every fact about an execution as a whole.
SUBJECTS = "flyte.executions.execution.*"
OWNER = EXECUTION_CREATED.owner
# Between two looks while there is nothing to do; a launch waits half of it on average.
_IDLE_SECONDS = 0.2
# After a failure of NATS.
_AGAIN_SECONDS = 1.0
# Handed over side by side; the burst is done when the slowest is.
_AT_ONCE = 32
# Shorter than the time after which a fact that is not done comes again, and longer than any answer takes that comes.
_ENGINE_SECONDS = 20.0

# A part or the engine cannot be asked now.
_NOT_NOW = (Unavailable, DeadlineExceeded, ResourceExhausted, TimeoutError)

REFUSED = Counter("flyteplane_executions_refused_by_engine_total", "Executions that the engine did not take")
LAUNCH_SECONDS = Histogram(
    "flyteplane_engine_launch_seconds",
    "From an execution being created until its engine has it",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600),
)


class EngineDispatcher:
    """One replica's part; replicas share the facts."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        reconciler: AbortReconciler,
        *,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._engine = engine
        self._reconciler = reconciler
        self._settings = settings
        self._patience = timedelta(seconds=settings.engine_patience_seconds)
        self._clock = clock

    async def run(self, bus: Bus) -> None:
        """Hand over for ever; a part that is down is waited for."""
        facts: BatchConsumer | None = None
        while True:
            try:
                facts = facts or await _facts(bus)
                if not await self.round(facts):
                    await asyncio.sleep(_IDLE_SECONDS)
            except ServiceError as error:
                log.warning("executions wait for their engine: %s", error.message)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def round(self, facts: BatchConsumer) -> int:
        """Take up what waits, `_AT_ONCE` at most; answers how many facts there were."""
        fetched = await facts.fetch(_AT_ONCE)
        done = await asyncio.gather(*map(self._take, fetched))
        await facts.done(fact for fact, is_done in zip(fetched, done, strict=True) if is_done)
        return len(fetched)

    async def bring(self, identifier: WorkflowExecutionIdentifier) -> None:
        """Ask of the engine what the execution's phase asks for, until it asks for nothing else.

        Raises what the engine or a part raises.
        """
        done: EngineAction | None = None
        while (wanted := await self._wanted(identifier)) not in {None, done}:
            async with asyncio.timeout(_ENGINE_SECONDS):
                await (self._run(identifier) if wanted is EngineAction.RUN else self._stop(identifier))
            done = wanted

    async def _wanted(self, identifier: WorkflowExecutionIdentifier) -> EngineAction | None:
        async with self._db.read() as connection:
            phase = await get_phase(connection, identifier)
        return engine_action(phase) if phase is not None else None

    async def _run(self, identifier: WorkflowExecutionIdentifier) -> None:
        async with self._db.read() as connection:
            stored = await get_work(connection, identifier)
        if stored is not None:
            await self._engine.run(_work(identifier, stored, self._settings))
            LAUNCH_SECONDS.observe(max(0.0, (self._clock() - stored.created_at).total_seconds()))

    async def _stop(self, identifier: WorkflowExecutionIdentifier) -> None:
        if not await self._engine.stop(identifier):
            await self._reconciler.end(execution_key(identifier))

    async def hand(self, identifier: WorkflowExecutionIdentifier, *, last: bool) -> bool:
        """Bring an execution to the engine; answers whether that is done with, which a refusal is too.

        `last`: an engine that cannot be asked now has refused it.
        """
        about = {"execution": "/".join(execution_key(identifier))}
        try:
            await self.bring(identifier)
        except _NOT_NOW as error:
            log.warning("the engine cannot be asked: %r", error, extra=about)
            return last and await self._refuse(identifier, error)
        except Exception as error:
            log.exception("the engine refuses", extra=about)
            return await self._refuse(identifier, error)
        return True

    async def _take(self, fact: Fetched) -> bool:
        identifier = WorkflowExecutionIdentifier.FromString(fact.payload)
        # At least two tries: until the first one the service itself may have been away for long.
        last = fact.redelivered and self._clock() - fact.stored_at >= self._patience
        return await self.hand(identifier, last=last)

    async def _refuse(self, identifier: WorkflowExecutionIdentifier, error: Exception) -> bool:
        """End an execution that cannot be run; answers False, with nothing changed, when it was to be stopped."""
        if isinstance(error, TimeoutError):
            error = DeadlineExceeded("the engine did not answer in time")
        try:
            async with self._db.pipeline() as pipeline:
                state = await take(pipeline, execution_key(identifier))
                if (
                    state is None
                    or engine_action(WorkflowExecution.Phase.Name(state.closure.phase)) is not EngineAction.RUN
                ):
                    return state is None
                write_rows(pipeline, Changes(executions={state.key: refused(state, error, self._clock())}))
        except ServiceError:
            log.exception("the engine's refusal waits")
            return False
        REFUSED.inc()
        return True


async def _facts(bus: Bus) -> BatchConsumer:
    stream = announcements_of(OWNER)
    await bus.ensure(stream)
    return await bus.pull(stream, SUBJECTS, DURABLE)


def _work(identifier: WorkflowExecutionIdentifier, stored: StoredWork, settings: Settings) -> RunRequest:
    return RunRequest(
        id=identifier,
        workflow_id=ExecutionClosure.FromString(stored.closure).workflow_id,
        spec=ExecutionSpec.FromString(stored.spec),
        config=WorkflowExecutionConfig.FromString(stored.config),
        inputs_uri=stored.inputs_uri,
        acting=engine_inputs(stored.attributes, identifier.domain, settings),
        accepted_at=stored.created_at,
    )
