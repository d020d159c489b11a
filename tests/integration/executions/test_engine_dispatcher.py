"""Submission of executions to an engine: at least once, in any order of announcements, and never after a stop."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionClosure,
    ExecutionSpec,
    ExecutionTerminateRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.executions import EXECUTION_CREATED, EXECUTION_TERMINATED
from services.executions import app
from services.executions.engine.dispatcher import DURABLE, SUBJECTS, EngineDispatcher
from services.executions.engine.interface import LOST_CODE
from services.executions.jobs.abort_reconciler import AbortReconciler
from services.executions.jobs.lost_executions import LostExecutions
from services.executions.rules.events.layout import ObjectLayout
from services.kit.db.database import Database
from services.kit.errors import Internal, InvalidArgument, ResourceExhausted, Unavailable
from services.kit.messaging import streams
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox, announcements_of
from tests.support.execution_rows import execution
from tests.support.executions import execution_id, launch, registered_launch_plan, registry_with
from tests.support.memory_engine import MemoryEngine
from tests.support.parts import Parts, Served, service
from tests.support.waiting import until

Rows = psycopg.AsyncConnection[Any]
LAYOUT = ObjectLayout(lambda *parts: "/".join(parts))
PATIENCE = timedelta(minutes=10)


def now() -> datetime:
    return datetime.now(UTC)


async def phase_of(admin: AdminServiceStub, name: str) -> str:
    return WorkflowExecution.Phase.Name((await get(admin, name)).closure.phase)


async def get(admin: AdminServiceStub, name: str) -> Execution:
    execution_: Execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id(name)))
    return execution_


async def terminate(admin: AdminServiceStub, name: str) -> None:
    await admin.TerminateExecution(ExecutionTerminateRequest(id=execution_id(name), cause="enough"))


@pytest.fixture(scope="module")
async def db(served: Served) -> AsyncIterator[Database]:
    opened = await Database.open(served.settings.database_url)
    yield opened
    await opened.close()


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


def dispatcher_of(db: Database, engine: MemoryEngine, served: Served) -> EngineDispatcher:
    reconciler = AbortReconciler(db, Outbox(), LAYOUT, patience=PATIENCE, clock=now)
    return EngineDispatcher(db, engine, reconciler.end, settings=served.settings, clock=now)


@pytest.fixture
def dispatcher(db: Database, engine: MemoryEngine, served: Served) -> EngineDispatcher:
    return dispatcher_of(db, engine, served)


@pytest.fixture
def lost(db: Database, engine: MemoryEngine, dispatcher: EngineDispatcher) -> LostExecutions:
    return LostExecutions(db, engine, dispatcher, Outbox(), layout=LAYOUT, patience=PATIENCE, clock=now)


async def created(database: Rows, name: str, **row: Any) -> None:
    closure = ExecutionClosure(phase=row.get("phase", "UNDEFINED"))
    defaults = {"phase": "UNDEFINED", "closure": closure, "execution_created_at": now()}
    await execution(database, name, **{**defaults, **row})


async def test_new_execution_is_run_with_its_spec_and_inputs(
    dispatcher: EngineDispatcher, engine: MemoryEngine, database: Rows
) -> None:
    closure = ExecutionClosure()
    closure.workflow_id.name = "wf"
    spec = ExecutionSpec(max_parallelism=7)
    await created(database, "fresh", closure=closure, spec=spec, inputs_uri="file:///inputs")
    assert await dispatcher.submit(execution_id("fresh"), last=False)
    request = engine.running["fresh"]
    assert (request.id, request.workflow_id.name, request.spec) == (execution_id("fresh"), "wf", spec)
    assert (request.inputs_uri, request.engine_inputs.task_resources.defaults.cpu) == ("file:///inputs", "2")
    assert request.accepted_at <= now()


@pytest.mark.parametrize("phase", ["QUEUED", "RUNNING", "SUCCEEDING", "SUCCEEDED", "FAILED", "TIMED_OUT"])
async def test_execution_that_its_engine_reports_on_is_not_run_again(
    phase: str, dispatcher: EngineDispatcher, engine: MemoryEngine, database: Rows
) -> None:
    await created(database, f"known-{phase.lower()}", phase=phase)
    assert await dispatcher.submit(execution_id(f"known-{phase.lower()}"), last=True)
    assert (engine.ever, engine.stopped) == (set(), [])


async def test_announcement_of_a_missing_execution_is_done(dispatcher: EngineDispatcher, engine: MemoryEngine) -> None:
    assert await dispatcher.submit(execution_id("missing"), last=False)
    assert (engine.ever, engine.stopped) == (set(), [])


async def test_execution_stopped_before_it_ran_is_never_run_and_ends_at_once(
    dispatcher: EngineDispatcher, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "early")
    await terminate(admin, "early")
    assert await dispatcher.submit(execution_id("early"), last=False)
    assert (engine.ever, engine.stopped[0]) == (set(), "early")
    ended = (await get(admin, "early")).closure
    assert (ended.phase, ended.abort_metadata.cause) == (WorkflowExecution.ABORTED, "enough")


async def test_execution_stopped_during_its_submission_is_stopped_after_it(
    dispatcher: EngineDispatcher, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "crossed")
    engine.gate = asyncio.Event()
    submission = asyncio.create_task(dispatcher.submit(execution_id("crossed"), last=False))
    await engine.entered.wait()
    await terminate(admin, "crossed")
    engine.gate.set()
    assert await submission
    assert (engine.running, engine.stopped) == ({}, ["crossed"])
    assert await phase_of(admin, "crossed") == "ABORTING"  # the engine had it and will report its end


@pytest.mark.parametrize(
    ("error", "stored"),
    [
        (InvalidArgument("no entry node"), ("InvalidArgument", "USER")),
        (Internal("failed to create workflow"), ("Internal", "SYSTEM")),
        (ValueError("a task is missing — 缺"), ("Unknown", "SYSTEM")),
    ],
)
async def test_refused_execution_is_failed_with_the_error(
    error: Exception, stored: tuple[str, str], served: Served, db: Database, database: Rows
) -> None:
    code, kind = stored
    name = f"refused-{code.lower()}"
    admin = AdminServiceStub(served.channel)
    await created(database, name)
    dispatcher = dispatcher_of(db, MemoryEngine(failures=[error]), served)
    assert await dispatcher.submit(execution_id(name), last=False)
    closure = (await get(admin, name)).closure
    assert closure.phase == WorkflowExecution.FAILED
    assert (closure.error.code, closure.error.kind, closure.error.message) == (
        code,
        ExecutionError.ErrorKind.Value(kind),
        str(error),
    )
    assert not closure.HasField("started_at")
    assert not closure.HasField("duration")
    cursor = await database.execute(
        "SELECT phase, error_code, error_kind, started_at FROM executions WHERE execution_name = %s", (name,)
    )
    assert await cursor.fetchone() == ("FAILED", code, kind, None)


async def test_launch_waits_for_an_unavailable_engine_and_fails_at_the_last_try(
    dispatcher: EngineDispatcher, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "patient")
    engine.failures = [Unavailable("no route"), ResourceExhausted("too many"), Unavailable("still no route")]
    for _ in range(2):
        assert not await dispatcher.submit(execution_id("patient"), last=False)
        assert await phase_of(admin, "patient") == "UNDEFINED"
    assert await dispatcher.submit(execution_id("patient"), last=True)
    error = (await get(admin, "patient")).closure.error
    assert (error.code, error.message, error.kind) == ("Unavailable", "still no route", ExecutionError.SYSTEM)


@pytest.mark.parametrize("error", [Unavailable("no route"), Internal("failed to terminate execution")])
async def test_stop_is_retried_after_any_error(
    error: Exception, dispatcher: EngineDispatcher, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    name = f"stop-{type(error).__name__.lower()}"
    await created(database, name)
    assert await dispatcher.submit(execution_id(name), last=False)
    await terminate(admin, name)
    engine.failures = [error, error]
    for _ in range(2):
        assert not await dispatcher.submit(execution_id(name), last=True)
        assert (await phase_of(admin, name), list(engine.running)) == ("ABORTING", [name])
    assert await dispatcher.submit(execution_id(name), last=True)
    assert engine.running == {}


async def test_replicas_share_the_announcements_and_process_all(
    parts: Parts, db: Database, served: Served, database: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Announcements come twice and in both orders, the engine fails sometimes, a replica is killed."""
    # The time until messages of a killed replica are redelivered.
    monkeypatch.setattr(streams, "PULL_ACK_WAIT_SECONDS", 1.0)
    admin = AdminServiceStub(served.channel)
    names = [f"many-{number}" for number in range(60)]
    stopped = set(names[::3])
    engine = MemoryEngine(failures=[Unavailable("no route"), ResourceExhausted("too many")])
    bus = await Bus.connect(parts.nats_url, "engine-test")
    await bus.declare_stream(announcements_of(EXECUTION_CREATED.owner))
    # Messages that other tests left in this stream are not for this engine.
    await bus.pull_consumer(announcements_of(EXECUTION_CREATED.owner), SUBJECTS, DURABLE)

    def replica() -> asyncio.Task[None]:
        return asyncio.create_task(dispatcher_of(db, engine, served).run(bus))

    replicas = [replica(), replica()]
    try:
        for name in names:
            await created(database, name)
            payload = execution_id(name).SerializeToString()
            await bus.append(EXECUTION_CREATED.subject, payload, f"{name}-created")
            if name in stopped:
                await terminate(admin, name)
                await bus.append(EXECUTION_TERMINATED.subject, payload, f"{name}-terminated")
            await bus.append(EXECUTION_CREATED.subject, payload, f"{name}-again")
        replicas.pop(0).cancel()
        replicas.append(replica())
        phases: dict[str, str] = {}

        async def settled() -> bool:
            cursor = await database.execute(
                "SELECT execution_name, phase FROM executions WHERE execution_name LIKE 'many-%%'"
            )
            phases.update(await cursor.fetchall())
            aborting = {name for name, phase in phases.items() if phase == "ABORTING"}
            ended = aborting | {name for name, phase in phases.items() if phase == "ABORTED"}
            started = set(engine.running) == set(names) - stopped
            # The engine reports the end of those that ran before the stop; the others are ended without it.
            return started and ended == stopped and aborting <= engine.ever and not engine.failures

        async with asyncio.timeout(20):
            while not await settled():  # noqa: ASYNC110  # rows send no event
                await asyncio.sleep(0.05)
    finally:
        for task in replicas:
            task.cancel()
        await bus.close()
    assert {phases[name] for name in set(names) - stopped} == {"UNDEFINED"}


OLD = {"updated_at": datetime(2020, 1, 1, tzinfo=UTC)}


async def test_execution_without_changes_that_the_engine_lost_fails_with_a_system_error(
    lost: LostExecutions, engine: MemoryEngine, dispatcher: EngineDispatcher, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "running-old")
    await dispatcher.submit(execution_id("running-old"), last=False)
    await database.execute(
        "UPDATE executions SET phase = 'RUNNING', updated_at = '2020-01-01' WHERE execution_name = 'running-old'"
    )
    await created(database, "gone-queued", phase="QUEUED", **OLD)
    await created(database, "gone-running", phase="RUNNING", **OLD)
    await created(database, "moving", phase="RUNNING")
    await created(database, "over", phase="SUCCEEDED", **OLD)
    await created(database, "unstarted", **OLD)
    await lost.check()
    for name in ("gone-queued", "gone-running"):
        closure = (await get(admin, name)).closure
        assert (closure.phase, closure.error.code) == (WorkflowExecution.FAILED, LOST_CODE)
        assert closure.error.kind == ExecutionError.SYSTEM
    assert await phase_of(admin, "moving") == "RUNNING"
    assert await phase_of(admin, "over") == "SUCCEEDED"
    assert set(engine.running) >= {"running-old", "unstarted"}
    cursor = await database.execute("SELECT phase FROM executions WHERE execution_name = 'running-old'")
    assert await cursor.fetchone() == ("RUNNING",)


async def test_unavailable_engine_ends_no_execution(
    lost: LostExecutions, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "unchecked", phase="RUNNING", **OLD)
    engine.failures = [Unavailable("no route")]
    with pytest.raises(Unavailable):
        await lost.check()
    assert await phase_of(admin, "unchecked") == "RUNNING"
    await lost.check()
    assert await phase_of(admin, "unchecked") == "FAILED"


async def test_event_during_the_check_wins(
    lost: LostExecutions, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "revived", phase="RUNNING", **OLD)
    original = engine.missing

    async def missing(executions: Any) -> Any:
        await database.execute("UPDATE executions SET updated_at = now() WHERE execution_name = 'revived'")
        return await original(executions)

    engine.missing = missing  # type: ignore[method-assign]
    await lost.check()
    assert await phase_of(admin, "revived") == "RUNNING"


async def test_running_service_submits_launched_executions_and_stops_terminated_ones(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MemoryEngine()
    monkeypatch.setattr(app, "ENGINES", {"none": lambda _bus: engine})
    settings = {"objects_url": f"file://{parts.folder / 'objects'}", "signing_key": "key"}
    async with (
        service("projects", parts, "engine_dispatcher_projects"),
        registry_with(parts.nats_url, registered_launch_plan()),
        service("executions", parts, "engine_dispatcher", **settings) as running,
    ):
        admin = AdminServiceStub(running.channel)
        await admin.CreateExecution(launch("by-engine"))
        await until(lambda: "by-engine" in engine.running)
        await terminate(admin, "by-engine")
        await until(lambda: "by-engine" not in engine.running)
        assert await phase_of(admin, "by-engine") == "ABORTING"
        with pytest.raises(grpc.aio.AioRpcError):
            await admin.CreateExecution(launch("by-engine"))
        assert engine.stopped == ["by-engine"]
