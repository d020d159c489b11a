"""UpdateExecution and TerminateExecution, over gRPC, on rows in a real database."""

import hashlib
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.event_pb2 import EventFailureReason
from flyteidl.admin.execution_pb2 import (
    EXECUTION_ARCHIVED,
    ExecutionTerminateRequest,
    ExecutionUpdateRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.execution_rows import execution, listed
from tests.support.executions import execution_id
from tests.support.refusals import detail_of, refused

GET = WorkflowExecutionGetRequest


async def test_archived_execution_is_not_listed_in_any_phase(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "hidden", user="archiver")
    assert await listed(admin, "eq(user,archiver)") == ["hidden"]
    request = ExecutionUpdateRequest(id=execution_id("hidden"), state=EXECUTION_ARCHIVED)
    for _ in range(2):
        await admin.UpdateExecution(request)
    assert await listed(admin, "eq(user,archiver)") == []
    closure = (await admin.GetExecution(GET(id=execution_id("hidden")))).closure
    assert closure.state_change_details.state == EXECUTION_ARCHIVED
    assert closure.phase == WorkflowExecution.RUNNING


async def test_terminated_execution_is_aborting_and_can_be_terminated_again(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "ending")
    for cause in ("first", "second"):
        await admin.TerminateExecution(ExecutionTerminateRequest(id=execution_id("ending"), cause=cause))
    closure = (await admin.GetExecution(GET(id=execution_id("ending")))).closure
    assert closure.phase == WorkflowExecution.ABORTING
    assert closure.abort_metadata.cause == "second"


@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"])
async def test_ended_execution_cannot_be_terminated(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], phase: str
) -> None:
    name = f"ended-{phase.lower()}"
    await execution(database, name, phase=phase)
    error = await refused(
        admin.TerminateExecution(ExecutionTerminateRequest(id=execution_id(name))),
        grpc.StatusCode.FAILED_PRECONDITION,
        "Cannot abort an already terminated workflow execution",
    )
    reason = detail_of(error, EventFailureReason())
    assert reason.already_in_terminal_state.current_phase == phase


MD5 = hashlib.md5(b"content", usedforsecurity=False).digest()
