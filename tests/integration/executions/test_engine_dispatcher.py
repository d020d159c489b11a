"""What is handed to an engine: at least once, in whatever order the facts come, and never what was stopped."""

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
from services.executions.engine.port import LOST_CODE
from services.executions.jobs.lost_executions import LostExecutions
from services.executions.jobs.unconfirmed_aborts import AbortReconciler
from services.executions.rules.events.storage import Storage
from services.kit.db.database import Database
from services.kit.errors import Internal, InvalidArgument, ResourceExhausted, Unavailable
from services.kit.messaging import streams
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox, announcements_of
from tests.support.execution_rows import execution
from tests.support.executions import execution_id, launch, registered_launch_plan, registry_knowing
from tests.support.memory_engine import MemoryEngine
from tests.support.parts import Parts, Served, service
from tests.support.waiting import until

Rows = psycopg.AsyncConnection[Any]
STORAGE = Storage(lambda *parts: "/".join(parts))
PATIENCE = timedelta(minutes=10)


def now() -> datetime:
    return datetime.now(UTC)


async def phase_of(admin: AdminServiceStub, name: str) -> str:
    return WorkflowExecution.Phase.Name((await get(admin, name)).closure.phase)


async def get(admin: AdminServiceStub, name: str) -> Execution:
    found: Execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id(name)))
    return found


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


def working(db: Database, engine: MemoryEngine, served: Served) -> EngineDispatcher:
    reconciler = AbortReconciler(db, Outbox(), STORAGE, patience=PATIENCE, clock=now)
    return EngineDispatcher(db, engine, reconciler, settings=served.settings, clock=now)


@pytest.fixture
def work(db: Database, engine: MemoryEngine, served: Served) -> EngineDispatcher:
    return working(db, engine, served)


@pytest.fixture
def lost(db: Database, engine: MemoryEngine, work: EngineDispatcher) -> LostExecutions:
    return LostExecutions(db, engine, work, Outbox(), storage=STORAGE, patience=PATIENCE, clock=now)


async def created(database: Rows, name: str, **row: Any) -> None:
    closure = ExecutionClosure(phase=row.get("phase", "UNDEFINED"))
    defaults = {"phase": "UNDEFINED", "closure": closure, "execution_created_at": now()}
    await execution(database, name, **{**defaults, **row})


async def test_a_new_execution_is_run_with_what_it_was_launched_with(
    work: EngineDispatcher, engine: MemoryEngine, database: Rows
) -> None:
    closure = ExecutionClosure()
    closure.workflow_id.name = "wf"
    spec = ExecutionSpec(max_parallelism=7)
    await created(database, "fresh", closure=closure, spec=spec, inputs_uri="file:///inputs")
    assert await work.hand(execution_id("fresh"), last=False)
    handed = engine.running["fresh"]
    assert (handed.id, handed.workflow_id.name, handed.spec) == (execution_id("fresh"), "wf", spec)
    assert (handed.inputs_uri, handed.acting.task_resources.defaults.cpu) == ("file:///inputs", "2")
    assert handed.accepted_at <= now()


@pytest.mark.parametrize("phase", ["QUEUED", "RUNNING", "SUCCEEDING", "SUCCEEDED", "FAILED", "TIMED_OUT"])
async def test_what_its_engine_reports_on_is_not_handed_again(
    phase: str, work: EngineDispatcher, engine: MemoryEngine, database: Rows
) -> None:
    await created(database, f"known-{phase.lower()}", phase=phase)
    assert await work.hand(execution_id(f"known-{phase.lower()}"), last=True)
    assert (engine.ever, engine.stopped) == (set(), [])


async def test_the_fact_of_an_execution_that_is_not_there_is_done_with(
    work: EngineDispatcher, engine: MemoryEngine
) -> None:
    assert await work.hand(execution_id("nobody"), last=False)
    assert (engine.ever, engine.stopped) == (set(), [])


async def test_what_was_stopped_before_it_ran_is_never_run_and_ends_at_once(
    work: EngineDispatcher, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "early")
    await terminate(admin, "early")
    assert await work.hand(execution_id("early"), last=False)
    assert (engine.ever, engine.stopped[0]) == (set(), "early")
    ended = (await get(admin, "early")).closure
    assert (ended.phase, ended.abort_metadata.cause) == (WorkflowExecution.ABORTED, "enough")


async def test_what_is_stopped_while_it_is_handed_over_is_stopped_after(
    work: EngineDispatcher, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "crossed")
    engine.gate = asyncio.Event()
    handing = asyncio.create_task(work.hand(execution_id("crossed"), last=False))
    await engine.entered.wait()
    await terminate(admin, "crossed")
    engine.gate.set()
    assert await handing
    assert (engine.running, engine.stopped) == ({}, ["crossed"])
    assert await phase_of(admin, "crossed") == "ABORTING"  # the engine had it and will report its end


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InvalidArgument("no entry node"), ("InvalidArgument", "USER")),
        (Internal("failed to create workflow"), ("Internal", "SYSTEM")),
        (ValueError("a task is missing — 缺"), ("Unknown", "SYSTEM")),
    ],
)
async def test_a_refused_execution_has_failed_and_tells_why(
    error: Exception, told: tuple[str, str], served: Served, db: Database, database: Rows
) -> None:
    code, kind = told
    name = f"refused-{code.lower()}"
    admin = AdminServiceStub(served.channel)
    await created(database, name)
    work = working(db, MemoryEngine(failures=[error]), served)
    assert await work.hand(execution_id(name), last=False)
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


async def test_a_launch_waits_for_an_engine_that_is_away_and_fails_in_the_end(
    work: EngineDispatcher, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "patient")
    engine.failures = [Unavailable("no route"), ResourceExhausted("too many"), Unavailable("still no route")]
    for _ in range(2):
        assert not await work.hand(execution_id("patient"), last=False)
        assert await phase_of(admin, "patient") == "UNDEFINED"
    assert await work.hand(execution_id("patient"), last=True)
    error = (await get(admin, "patient")).closure.error
    assert (error.code, error.message, error.kind) == ("Unavailable", "still no route", ExecutionError.SYSTEM)


@pytest.mark.parametrize("error", [Unavailable("no route"), Internal("failed to terminate execution")])
async def test_a_stop_is_never_given_up(
    error: Exception, work: EngineDispatcher, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    name = f"stop-{type(error).__name__.lower()}"
    await created(database, name)
    assert await work.hand(execution_id(name), last=False)
    await terminate(admin, name)
    engine.failures = [error, error]
    for _ in range(2):
        assert not await work.hand(execution_id(name), last=True)
        assert (await phase_of(admin, name), list(engine.running)) == ("ABORTING", [name])
    assert await work.hand(execution_id(name), last=True)
    assert engine.running == {}


async def test_replicas_share_the_facts_and_leave_nothing_behind(
    parts: Parts, db: Database, served: Served, database: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts twice and in both orders, an engine that fails now and then, a replica that is killed."""
    monkeypatch.setattr(streams, "FETCHED_ACK_WAIT_SECONDS", 1.0)  # what a killed replica had comes again after it
    admin = AdminServiceStub(served.channel)
    names = [f"many-{number}" for number in range(60)]
    stopped = set(names[::3])
    engine = MemoryEngine(failures=[Unavailable("no route"), ResourceExhausted("too many")])
    bus = await Bus.connect(parts.nats_url, "engine-test")
    await bus.ensure(announcements_of(EXECUTION_CREATED.owner))
    # What other tests of this stream left is not for this engine.
    await bus.pull(announcements_of(EXECUTION_CREATED.owner), SUBJECTS, DURABLE)

    def replica() -> asyncio.Task[None]:
        return asyncio.create_task(working(db, engine, served).run(bus))

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
            ended = {name for name, phase in phases.items() if phase in {"ABORTING", "ABORTED"}}
            return set(engine.running) == set(names) - stopped and ended == stopped and not engine.failures

        async with asyncio.timeout(20):
            while not await settled():  # noqa: ASYNC110  # rows send no event
                await asyncio.sleep(0.05)
    finally:
        for task in replicas:
            task.cancel()
        await bus.close()
    # Whoever was run and then stopped is for the engine to report on; the others have ended.
    assert {name for name in stopped if phases[name] == "ABORTING"} <= engine.ever
    assert {phases[name] for name in set(names) - stopped} == {"UNDEFINED"}


OLD = {"updated_at": datetime(2020, 1, 1, tzinfo=UTC)}


async def test_what_no_longer_moves_and_is_gone_from_the_engine_fails_with_a_system_error(
    lost: LostExecutions, engine: MemoryEngine, work: EngineDispatcher, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "kept")
    await work.hand(execution_id("kept"), last=False)
    await database.execute(
        "UPDATE executions SET phase = 'RUNNING', updated_at = '2020-01-01' WHERE execution_name = 'kept'"
    )
    await created(database, "gone-queued", phase="QUEUED", **OLD)
    await created(database, "gone-running", phase="RUNNING", **OLD)
    await created(database, "moving", phase="RUNNING")
    await created(database, "over", phase="SUCCEEDED", **OLD)
    await created(database, "unstarted", **OLD)
    await lost.look()
    for name in ("gone-queued", "gone-running"):
        closure = (await get(admin, name)).closure
        assert (closure.phase, closure.error.code) == (WorkflowExecution.FAILED, LOST_CODE)
        assert closure.error.kind == ExecutionError.SYSTEM
    assert await phase_of(admin, "moving") == "RUNNING"
    assert await phase_of(admin, "over") == "SUCCEEDED"
    assert set(engine.running) >= {"kept", "unstarted"}
    cursor = await database.execute("SELECT phase FROM executions WHERE execution_name = 'kept'")
    assert await cursor.fetchone() == ("RUNNING",)


async def test_an_engine_that_cannot_be_asked_loses_nothing(
    lost: LostExecutions, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "unasked", phase="RUNNING", **OLD)
    engine.failures = [Unavailable("no route")]
    with pytest.raises(Unavailable):
        await lost.look()
    assert await phase_of(admin, "unasked") == "RUNNING"
    await lost.look()
    assert await phase_of(admin, "unasked") == "FAILED"


async def test_an_event_meanwhile_wins(
    lost: LostExecutions, engine: MemoryEngine, database: Rows, admin: AdminServiceStub
) -> None:
    await created(database, "revived", phase="RUNNING", **OLD)
    ask = engine.missing

    async def missing(executions: Any) -> Any:
        await database.execute("UPDATE executions SET updated_at = now() WHERE execution_name = 'revived'")
        return await ask(executions)

    engine.missing = missing  # type: ignore[method-assign]
    await lost.look()
    assert await phase_of(admin, "revived") == "RUNNING"


async def test_a_running_service_hands_over_what_is_launched_and_stopped(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MemoryEngine()
    monkeypatch.setattr(app, "ENGINES", {"none": lambda _settings: engine})
    settings = {"objects_url": f"file://{parts.folder / 'objects'}", "signing_key": "key"}
    async with (
        service("projects", parts, "engine_work_projects"),
        registry_knowing(parts.nats_url, registered_launch_plan()),
        service("executions", parts, "engine_work", **settings) as running,
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
