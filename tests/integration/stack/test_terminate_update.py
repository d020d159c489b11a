"""TerminateExecution and UpdateExecution through the gateway, by gRPC and REST.

(executions.md#terminateexecution, executions.md#updateexecution)
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest
from flyteidl.admin.event_pb2 import EventFailureReason, WorkflowExecutionEventRequest
from flyteidl.admin.execution_pb2 import (
    EXECUTION_ACTIVE,
    EXECUTION_ARCHIVED,
    Execution,
    ExecutionTerminateRequest,
    ExecutionUpdateRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.event.event_pb2 import WorkflowExecutionEvent
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.identifiers import identifier_text
from tests.integration.stack.launched import launch
from tests.support.entities import DOMAIN, PROJECT
from tests.support.refusals import detail_of, refused
from tests.support.sandbox import Sandbox

INVALID, MISSING, OVER = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
CAUSE = "wrong data — 停止 🛑\n" + "é" * 100
UNKNOWN_STATE = 7
NEVER_LAUNCHED = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name="neverlaunched")

Rest = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def rest(sandbox: Sandbox) -> Rest:
    """Return a function that sends a request about an execution over REST."""

    async def send(method: str, identifier: WorkflowExecutionIdentifier, body: Any) -> httpx.Response:
        path = f"/api/v1/executions/{identifier.project}/{identifier.domain}/{identifier.name}"
        async with httpx.AsyncClient(base_url=sandbox.url) as client:
            return await client.request(method, path, json=body)

    return send


async def get(admin: AdminServiceStub, identifier: WorkflowExecutionIdentifier) -> Execution:
    execution: Execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=identifier))
    return execution


async def report(admin: AdminServiceStub, identifier: WorkflowExecutionIdentifier, phase: str, seconds: int) -> None:
    event = WorkflowExecutionEvent(execution_id=identifier, phase=phase)
    event.occurred_at.FromSeconds(1_700_000_000 + seconds)
    if phase == "FAILED":
        event.error.CopyFrom(ExecutionError(code="USER:Broken", message="broken", kind=ExecutionError.USER))
    await admin.CreateWorkflowEvent(WorkflowExecutionEventRequest(request_id=f"{identifier.name}{phase}", event=event))


async def test_terminated_execution_has_cause_and_phase_until_its_engine_reports(
    admin: AdminServiceStub, plums: Identifier, rest: Rest
) -> None:
    identifier = await launch(admin, plums)
    await report(admin, identifier, "RUNNING", 0)
    running = (await get(admin, identifier)).closure
    await admin.TerminateExecution(ExecutionTerminateRequest(id=identifier, cause="first"))
    again = await rest("DELETE", identifier, {"cause": CAUSE})
    assert (again.status_code, again.json()) == (200, {})
    closure = (await get(admin, identifier)).closure
    assert (closure.phase, closure.abort_metadata.cause) == (WorkflowExecution.ABORTING, CAUSE)
    assert (closure.updated_at, closure.started_at) == (running.updated_at, running.started_at)
    read = (await rest("GET", identifier, None)).json()["closure"]
    assert (read["phase"], read["abortMetadata"]["cause"]) == ("ABORTING", CAUSE)
    whole = f"for workflow execution {identifier_text(identifier)}"
    aborting = f"Invalid phase change from aborting to SUCCEEDING {whole}"
    await refused(report(admin, identifier, "SUCCEEDING", 5), OVER, aborting)
    await report(admin, identifier, "ABORTED", 9)
    recorded = f"This phase ABORTED was already recorded {whole}"
    await refused(report(admin, identifier, "ABORTED", 9), grpc.StatusCode.ALREADY_EXISTS, recorded)
    ended = (await get(admin, identifier)).closure
    assert (ended.phase, ended.duration.seconds) == (WorkflowExecution.ABORTED, 9)
    assert ended.abort_metadata.cause == CAUSE


@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"])
async def test_execution_that_has_ended_cannot_be_terminated(
    phase: str, admin: AdminServiceStub, plums: Identifier, rest: Rest
) -> None:
    identifier = await launch(admin, plums)
    await report(admin, identifier, "RUNNING", 0)
    await report(admin, identifier, phase, 1)
    before = await get(admin, identifier)
    message = "Cannot abort an already terminated workflow execution"
    error = await refused(admin.TerminateExecution(ExecutionTerminateRequest(id=identifier)), OVER, message)
    assert detail_of(error, EventFailureReason()).already_in_terminal_state.current_phase == phase
    response = await rest("DELETE", identifier, {"cause": CAUSE})
    assert (response.status_code, response.json()["message"]) == (400, message)
    assert response.json()["details"][0]["already_in_terminal_state"] == {"current_phase": phase}
    assert await get(admin, identifier) == before


@pytest.mark.parametrize("rpc", ["TerminateExecution", "UpdateExecution"])
async def test_ids_are_checked_part_by_part(rpc: str, admin: AdminServiceStub, rest: Rest) -> None:
    request = {"TerminateExecution": ExecutionTerminateRequest, "UpdateExecution": ExecutionUpdateRequest}[rpc]
    call = getattr(admin, rpc)
    await refused(call(request()), INVALID, "missing id")
    await refused(call(request(id=WorkflowExecutionIdentifier())), INVALID, "missing project")
    await refused(call(request(id=WorkflowExecutionIdentifier(project="p"))), INVALID, "missing domain")
    await refused(call(request(id=WorkflowExecutionIdentifier(project="p", domain="d"))), INVALID, "missing name")
    missing = f"missing entity of type execution with identifier {NEVER_LAUNCHED}".partition(" with ")[0]
    error = await refused(call(request(id=NEVER_LAUNCHED)), MISSING, missing)
    response = await rest({"TerminateExecution": "DELETE", "UpdateExecution": "PUT"}[rpc], NEVER_LAUNCHED, {})
    assert (response.status_code, response.json()["message"]) == (404, error.details())


async def test_archived_execution_is_in_no_list_until_it_is_active_again(
    admin: AdminServiceStub, plums: Identifier, rest: Rest
) -> None:
    identifier = await launch(admin, plums)
    before = (await get(admin, identifier)).closure

    async def listed(filters: str = "") -> bool:
        whole_domain = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
        wanted = f"eq(execution_name,{identifier.name})" + filters
        request = ResourceListRequest(id=whole_domain, limit=10, filters=wanted)
        return bool((await admin.ListExecutions(request)).executions)

    assert await listed()
    response = await rest("PUT", identifier, {"state": "EXECUTION_ARCHIVED"})
    assert (response.status_code, response.json()) == (200, {})
    archived = (await get(admin, identifier)).closure
    assert archived.state_change_details.state == EXECUTION_ARCHIVED
    assert archived.state_change_details.occurred_at.ToDatetime() > before.created_at.ToDatetime()
    assert (archived.phase, archived.updated_at) == (before.phase, before.updated_at)
    assert not await listed()
    assert await listed("+eq(state,1)")
    await admin.UpdateExecution(ExecutionUpdateRequest(id=identifier, state=EXECUTION_ACTIVE))
    assert await listed()
    assert (await get(admin, identifier)).closure.state_change_details.state == EXECUTION_ACTIVE


async def test_state_of_a_later_release_is_stored_by_its_number(
    admin: AdminServiceStub, plums: Identifier, rest: Rest
) -> None:
    identifier = await launch(admin, plums)
    await admin.UpdateExecution(ExecutionUpdateRequest(id=identifier, state=UNKNOWN_STATE))  # type: ignore[arg-type]
    assert (await get(admin, identifier)).closure.state_change_details.state == UNKNOWN_STATE
    read = (await rest("GET", identifier, None)).json()
    assert read["closure"]["stateChangeDetails"]["state"] == UNKNOWN_STATE
    response = await rest("PUT", identifier, {"state": UNKNOWN_STATE + 1})
    assert response.status_code == 200
    assert (await get(admin, identifier)).closure.state_change_details.state == UNKNOWN_STATE + 1
    response = await rest("PUT", identifier, {"state": "NO_SUCH_STATE"})
    assert (response.status_code, response.json()["code"]) == (400, INVALID.value[0])
    assert (await get(admin, identifier)).closure.state_change_details.state == UNKNOWN_STATE + 1
