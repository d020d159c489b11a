"""Reconciliation of executions with the engine: it runs created executions and stops terminated ones.

An announcement causes a check of its execution, at least once. The dispatcher then takes the engine action that the
current phase requires, until it requires no other. So the result does not depend on the order of announcements, on
repeated ones, on the replica, or on where a process was killed. While the engine is unavailable, a launch waits for
`engine_patience_seconds` and is then FAILED with the engine's last error. A stop is retried as long as its announcement
is stored, as an execution that runs on unnoticed costs money. Nothing is fetched while no engine can be called.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from prometheus_client import Counter, Histogram

from services.contracts.engine import RunRequest
from services.contracts.executions import EXECUTION_CREATED
from services.executions.config import Settings
from services.executions.engine.inputs import child_queue, engine_inputs
from services.executions.engine.interface import Engine, EngineAction, engine_action, refused
from services.executions.responses.entities import attribute_spec
from services.executions.rules.events.batch import Changes
from services.executions.rules.events.state import ExecutionKey, execution_key
from services.executions.store.endings import lock_execution
from services.executions.store.event_rows import write_rows
from services.executions.store.run_requests import (
    StoredRunRequest,
    assign_cluster,
    get_phase,
    get_placements,
    get_run_request,
)
from services.kit.db.database import Database
from services.kit.errors import DeadlineExceeded, ResourceExhausted, ServiceError, Unavailable
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.pull_consumer import Fetched, PullConsumer

log = logging.getLogger(__name__)

DURABLE = "engine"
# All announcements about executions.
SUBJECTS = "flyte.executions.execution.*"
OWNER = EXECUTION_CREATED.owner
# How long one request for the next announcement waits at the stream.
_WAIT_SECONDS = 5.0
# Pause after a failure of NATS.
_RETRY_SECONDS = 1.0
# Executions reconciled concurrently: hundreds a second, also with an API server on another continent. More would delay
# launches, which run on the same event loop, when many executions wait after an outage.
_MOST_CONCURRENT = 16
# An announcement that cannot be processed now comes again after a second, then after twice as long each time.
_LONGEST_PAUSE_SECONDS = 30.0
# Shorter than the time until an unacknowledged announcement is delivered again, longer than any call that succeeds.
_ENGINE_SECONDS = 20.0

# The engine, the database or NATS is unavailable.
_UNAVAILABLE = (Unavailable, DeadlineExceeded, ResourceExhausted, TimeoutError)

REFUSED = Counter("flyteplane_executions_refused_by_engine_total", "Executions that the engine did not take")
LAUNCH_SECONDS = Histogram(
    "flyteplane_engine_launch_seconds",
    "From an execution being created until its engine has it",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600),
)


class EngineDispatcher:
    """The dispatcher of one replica; replicas share the announcements.

    `end_aborting` ends an ABORTING execution that the engine does not have (`AbortReconciler.end`).
    """

    def __init__(
        self,
        db: Database,
        engine: Engine,
        end_aborting: Callable[[ExecutionKey], Awaitable[None]],
        *,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._engine = engine
        self._end_aborting = end_aborting
        self._settings = settings
        self._patience = timedelta(seconds=settings.engine_patience_seconds)
        self._clock = clock

    async def run(self, bus: Bus) -> None:
        """Reconcile executions until cancelled; failures of NATS and the database are retried."""
        announcements: PullConsumer | None = None
        running: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._engine.available()
                    announcements = announcements or await _announcements(bus)
                    while len(running) >= _MOST_CONCURRENT:
                        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for fetched in await announcements.fetch(_MOST_CONCURRENT - len(running), _WAIT_SECONDS):
                        task = group.create_task(self._process(fetched, announcements))
                        running.add(task)
                        task.add_done_callback(running.discard)
                except ServiceError as error:
                    log.warning("executions wait for their engine: %s", error.message)
                    await asyncio.sleep(_RETRY_SECONDS)

    async def reconcile(self, identifier: WorkflowExecutionIdentifier) -> None:
        """Take the engine actions that the phase of an execution requires, until it requires no other.

        Raises:
            ServiceError: The engine, the database or NATS failed.
            TimeoutError: The engine did not respond in time.
            Exception: Any other error of the engine.
        """
        async with self._db.read() as connection:
            stored = await get_run_request(connection, identifier)
        if stored is None:
            return
        done: EngineAction | None = None
        action = engine_action(stored.phase)
        while action not in {None, done}:
            async with asyncio.timeout(_ENGINE_SECONDS):
                await (self._run(identifier, stored) if action is EngineAction.RUN else self._stop(identifier))
            done = action
            async with self._db.read() as connection:
                phase = await get_phase(connection, identifier)
            action = engine_action(phase) if phase is not None else None

    async def _run(self, identifier: WorkflowExecutionIdentifier, stored: StoredRunRequest) -> None:
        request = _run_request(identifier, stored, self._settings)
        if not request.cluster and (cluster := self._engine.choose_cluster(request)):
            async with self._db.autocommit() as connection:
                cluster = await assign_cluster(connection, identifier, stored, cluster)
            request = replace(request, cluster=cluster)
        await self._engine.run(request)
        LAUNCH_SECONDS.observe(max(0.0, (self._clock() - stored.created_at).total_seconds()))

    async def _stop(self, identifier: WorkflowExecutionIdentifier) -> None:
        async with self._db.read() as connection:
            placements = await get_placements(connection, [identifier])
        for placement in placements:
            if not await self._engine.stop(placement):
                await self._end_aborting(execution_key(identifier))

    async def submit(self, identifier: WorkflowExecutionIdentifier, *, last: bool) -> bool:
        """Reconcile an execution with the engine, and end it if the engine refuses it.

        Args:
            identifier: The execution.
            last: Whether this is the last try: an unavailable engine counts as a refusal.

        Returns:
            Whether the execution is done: reconciled or ended. Otherwise it must be submitted again.
        """
        about = {"execution": "/".join(execution_key(identifier))}
        try:
            await self.reconcile(identifier)
        except _UNAVAILABLE as error:
            log.warning("the engine is unavailable: %r", error, extra=about)
            return last and await self._refuse(identifier, error)
        except Exception as error:
            log.exception("the engine refuses the execution", extra=about)
            return await self._refuse(identifier, error)
        return True

    async def _process(self, announcement: Fetched, announcements: PullConsumer) -> None:
        identifier = WorkflowExecutionIdentifier.FromString(announcement.payload)
        # At least two tries, as this service itself may have been down for long before the first.
        last = announcement.redelivered and self._clock() - announcement.stored_at >= self._patience
        if await self.submit(identifier, last=last):
            await announcements.acknowledge([announcement])
        else:
            await announcements.postpone(announcement, _pause(announcement.deliveries))

    async def _refuse(self, identifier: WorkflowExecutionIdentifier, error: Exception) -> bool:
        """Make an execution that cannot be run FAILED; return False, with nothing changed, if it was to be stopped."""
        if isinstance(error, TimeoutError):
            error = DeadlineExceeded("the engine did not answer in time")
        try:
            async with self._db.pipeline() as pipeline:
                state = await lock_execution(pipeline, execution_key(identifier))
                if (
                    state is None
                    or engine_action(WorkflowExecution.Phase.Name(state.closure.phase)) is not EngineAction.RUN
                ):
                    return state is None
                write_rows(pipeline, Changes(executions={state.key: refused(state, error, self._clock())}))
        except ServiceError:
            log.exception("the engine's refusal cannot be stored yet")
            return False
        REFUSED.inc()
        return True


async def _announcements(bus: Bus) -> PullConsumer:
    stream = announcements_of(OWNER)
    await bus.declare_stream(stream)
    return await bus.pull_consumer(stream, SUBJECTS, DURABLE)


def _pause(deliveries: int) -> float:
    """Return the seconds until the next delivery of an announcement that was delivered this often."""
    return float(min(2 ** min(deliveries - 1, 10), _LONGEST_PAUSE_SECONDS))


def _run_request(identifier: WorkflowExecutionIdentifier, stored: StoredRunRequest, settings: Settings) -> RunRequest:
    added = attribute_spec(stored.attributes).SerializeToString() if stored.attributes else b""
    inputs = engine_inputs(stored.attributes, identifier.domain, settings)
    return RunRequest(
        id=identifier,
        workflow_id=ExecutionClosure.FromString(stored.closure).workflow_id,
        spec=ExecutionSpec.FromString(stored.spec + added),
        config=WorkflowExecutionConfig.FromString(stored.config),
        inputs_uri=stored.inputs_uri,
        engine_inputs=inputs,
        child_queue=child_queue(inputs.queue_tags, settings.queues, random.choice),
        accepted_at=stored.created_at,
        cluster=stored.cluster,
    )
