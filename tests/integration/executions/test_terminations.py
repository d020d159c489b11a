"""TerminateExecution, and the end of terminated executions without an engine.

See executions.md#end-of-a-terminated-execution.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.event_pb2 import EventFailureReason
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionClosure,
    ExecutionTerminateRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.timestamp_pb2 import Timestamp

from services.executions.jobs.abort_reconciler import AbortReconciler
from services.executions.rules.aborts import MAX_CAUSE_BYTES
from services.executions.rules.events.layout import ObjectLayout
from services.kit.db.database import Database
from services.kit.messaging.outbox import Outbox
from tests.support.execution_rows import execution, node
from tests.support.executions import execution_id
from tests.support.parts import Parts, Served, service
from tests.support.refusals import detail_of, refused
from tests.support.waiting import until

PATIENCE = timedelta(minutes=1)
STARTED = Timestamp(seconds=1_700_000_000)


def now() -> datetime:
    return datetime.now(UTC)


def later() -> datetime:
    return now() + PATIENCE + timedelta(seconds=5)


async def get(admin: AdminServiceStub, name: str) -> Execution:
    execution_: Execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id(name)))
    return execution_


def terminate(name: str, cause: str = "wrong data — 停止") -> ExecutionTerminateRequest:
    return ExecutionTerminateRequest(id=execution_id(name), cause=cause)


@pytest.fixture(scope="module")
async def db(served: Served) -> AsyncIterator[Database]:
    opened = await Database.open(served.settings.database_url)
    yield opened
    await opened.close()


def reconciler(db: Database, clock: Any = later) -> AbortReconciler:
    return AbortReconciler(db, Outbox(), ObjectLayout(lambda *parts: "/".join(parts)), patience=PATIENCE, clock=clock)


@pytest.mark.parametrize("phase", ["UNDEFINED", "QUEUED", "RUNNING", "SUCCEEDING", "FAILING"])
async def test_unconfirmed_abort_ends_with_its_cause(
    phase: str, admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], db: Database
) -> None:
    name = f"unconfirmed-{phase.lower()}"
    started = phase not in {"UNDEFINED", "QUEUED"}
    closure = ExecutionClosure(phase=phase, started_at=STARTED if started else None)
    await execution(database, name, phase=phase, closure=closure)
    await admin.TerminateExecution(terminate(name))
    assert (await get(admin, name)).closure.phase == WorkflowExecution.ABORTING
    assert await reconciler(db, now).end_overdue() == 0
    assert await reconciler(db).end_overdue() == 1
    ended = (await get(admin, name)).closure
    assert ended.phase == WorkflowExecution.ABORTED
    assert ended.abort_metadata.cause == "wrong data — 停止"
    assert ended.HasField("duration") is started
    cursor = await database.execute(
        "SELECT phase, abort_cause, duration > 0, execution_updated_at IS NOT NULL FROM executions"
        " WHERE execution_name = %s",
        (name,),
    )
    assert await cursor.fetchone() == ("ABORTED", "wrong data — 停止", started, True)
    error = await refused(
        admin.TerminateExecution(terminate(name)), grpc.StatusCode.FAILED_PRECONDITION, "already term"
    )
    assert detail_of(error, EventFailureReason()).already_in_terminal_state.current_phase == "ABORTED"
    assert await reconciler(db).end_overdue() == 0


async def test_second_termination_keeps_the_time_and_sets_the_cause(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], db: Database
) -> None:
    await execution(database, "twice")
    await admin.TerminateExecution(terminate("twice", "first"))
    since = await database.execute("SELECT aborting_since FROM executions WHERE execution_name = 'twice'")
    first = await since.fetchone()
    await admin.TerminateExecution(terminate("twice", "second"))
    since = await database.execute("SELECT aborting_since FROM executions WHERE execution_name = 'twice'")
    assert await since.fetchone() == first
    assert await reconciler(db).end_overdue() == 1
    assert (await get(admin, "twice")).closure.abort_metadata.cause == "second"


async def test_long_cause_is_cut_between_two_characters(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], db: Database
) -> None:
    await execution(database, "wordy")
    await admin.TerminateExecution(terminate("wordy", "x" + "é" * MAX_CAUSE_BYTES))
    cause = (await get(admin, "wordy")).closure.abort_metadata.cause
    assert cause == "x" + "é" * ((MAX_CAUSE_BYTES - 1) // 2)
    assert await reconciler(db).end_overdue() == 1


async def test_start_in_the_year_one_does_not_delay_others(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], db: Database
) -> None:
    """Some engines send Go's zero time."""
    closure = ExecutionClosure(phase="ABORTING", started_at=Timestamp(seconds=-62_135_596_800))
    await execution(database, "yearone", phase="ABORTING", closure=closure)
    await execution(database, "other", phase="ABORTING", closure=ExecutionClosure(phase="ABORTING"))
    assert await reconciler(db).end_overdue() == 2
    ended = (await get(admin, "yearone")).closure
    assert (ended.phase, ended.duration.seconds > 60_000_000_000) == (WorkflowExecution.ABORTED, True)


async def test_execution_that_cannot_be_written_waits_again_and_does_not_delay_others(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], db: Database
) -> None:
    for name in ("first", "refused", "last"):
        await execution(database, f"odd-{name}", phase="ABORTING", closure=ExecutionClosure(phase="ABORTING"))
    await database.execute(
        "ALTER TABLE executions ADD CONSTRAINT odd CHECK (execution_name <> 'odd-refused' OR phase <> 'ABORTED')"
    )
    try:
        assert await reconciler(db).end_overdue() == 2
        assert await reconciler(db, now).end_overdue() == 0
    finally:
        await database.execute("ALTER TABLE executions DROP CONSTRAINT odd")
    assert (await get(admin, "odd-refused")).closure.phase == WorkflowExecution.ABORTING
    assert await reconciler(db).end_overdue() == 1


async def test_child_executions_are_terminated_at_every_level(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], db: Database
) -> None:
    await execution(database, "grandparent", phase="ABORTING", closure=ExecutionClosure(phase="ABORTING"))
    await execution(database, "stranger")
    above = await node(database, "grandparent", "n0")
    await execution(database, "parent", parent_node_execution_id=above)
    await execution(database, "done", phase="SUCCEEDED", parent_node_execution_id=above)
    below = await node(database, "parent", "n0")
    await execution(database, "child", phase="UNDEFINED", closure=ExecutionClosure(), parent_node_execution_id=below)

    async def phases() -> list[str]:
        names = ("grandparent", "parent", "child", "done", "stranger")
        return [WorkflowExecution.Phase.Name((await get(admin, name)).closure.phase) for name in names]

    assert await reconciler(db).end_overdue() == 1
    assert await phases() == ["ABORTED", "ABORTING", "UNDEFINED", "SUCCEEDED", "RUNNING"]
    assert await reconciler(db).end_overdue() == 1
    assert await phases() == ["ABORTED", "ABORTED", "ABORTING", "SUCCEEDED", "RUNNING"]
    assert await reconciler(db).end_overdue() == 1
    assert await phases() == ["ABORTED", "ABORTED", "ABORTED", "SUCCEEDED", "RUNNING"]
    cause = "parent, which launched this execution, has ended"
    assert (await get(admin, "child")).closure.abort_metadata.cause == cause


async def test_long_running_execution_is_not_changed(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], db: Database
) -> None:
    old = now() - timedelta(days=90)
    for phase in ("UNDEFINED", "QUEUED", "RUNNING"):
        await execution(database, f"long-{phase.lower()}", phase=phase, created_at=old, updated_at=old)
    assert await reconciler(db).end_overdue() == 0
    assert (await get(admin, "long-running")).closure.phase == WorkflowExecution.RUNNING


async def test_rows_without_a_time_of_termination_wait_from_their_last_change(
    database: psycopg.AsyncConnection[Any], db: Database
) -> None:
    closure = ExecutionClosure(phase="ABORTING")
    await execution(database, "former", phase="ABORTING", closure=closure)
    assert await reconciler(db, now).end_overdue() == 0
    assert await reconciler(db).end_overdue() == 1


async def test_replicas_share_the_work_and_skip_locked_executions(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], db: Database, served: Served
) -> None:
    closure = ExecutionClosure(phase="ABORTING")
    for number in range(250):
        await execution(database, f"shared-{number}", phase="ABORTING", closure=closure)
    async with await psycopg.AsyncConnection.connect(served.settings.database_url) as user:
        await user.execute("SELECT 1 FROM executions WHERE execution_name = 'shared-7' FOR UPDATE")
        rounds = [await asyncio.gather(*(reconciler(db).end_overdue() for _ in range(2))) for _ in range(3)]
        assert sum(map(sum, rounds)) == 249
        assert (await get(admin, "shared-7")).closure.phase == WorkflowExecution.ABORTING
        await user.rollback()
    assert await reconciler(db).end_overdue() == 1


async def test_running_service_ends_unconfirmed_aborts(parts: Parts) -> None:
    settings = {
        "objects_url": f"file://{parts.folder / 'objects'}",
        "signing_key": "key",
        "abort_patience_seconds": 0.5,
    }
    async with (
        service("executions", parts, "terminations", **settings) as running,
        await psycopg.AsyncConnection.connect(running.settings.database_url, autocommit=True) as connection,
    ):
        await execution(connection, "unconfirmed", phase="UNDEFINED", closure=ExecutionClosure())
        admin = AdminServiceStub(running.channel)
        await admin.TerminateExecution(terminate("unconfirmed"))

        def ended() -> bool:
            with psycopg.connect(running.settings.database_url) as other:
                row = other.execute("SELECT phase FROM executions WHERE execution_name = 'unconfirmed'").fetchone()
            return row == ("ABORTED",)

        await until(ended)


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (ExecutionTerminateRequest(), grpc.StatusCode.INVALID_ARGUMENT, "missing id"),
        (
            ExecutionTerminateRequest(id=WorkflowExecutionIdentifier(project="p")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "missing domain",
        ),
        (terminate("never"), grpc.StatusCode.NOT_FOUND, "missing entity of type execution"),
    ],
)
async def test_invalid_termination_is_refused(
    request_: ExecutionTerminateRequest, code: grpc.StatusCode, message: str, admin: AdminServiceStub
) -> None:
    await refused(admin.TerminateExecution(request_), code, message)
