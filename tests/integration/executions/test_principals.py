"""The caller is the principal of what it does, on calls of the gateway; what it claims itself has no effect."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest
from flyteidl.admin.execution_pb2 import (
    EXECUTION_ARCHIVED,
    Execution,
    ExecutionRelaunchRequest,
    ExecutionTerminateRequest,
    ExecutionUpdateRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.callers import SECRET, sent_by_gateway
from tests.support.entities import DOMAIN, PROJECT
from tests.support.executions import execution_id, launch, registered_launch_plan, registry_with
from tests.support.parts import Parts, Served, service
from tests.support.refusals import refused

Metadata = tuple[tuple[str, str], ...]
ANN: Metadata = tuple(sent_by_gateway(sub="ann", azp="flytectl").items())
BEN: Metadata = tuple(sent_by_gateway(sub="ben").items())


@pytest.fixture(scope="module")
async def guarded(parts: Parts) -> AsyncIterator[Served]:
    """Run the service with the gateway's secret."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service("projects", parts, "principals_projects"))
        await stack.enter_async_context(registry_with(parts.nats_url, registered_launch_plan()))
        objects = f"file://{parts.folder}/principals"
        settings = {"objects_url": objects, "signing_key": "key", "gateway_secret": SECRET}
        yield await stack.enter_async_context(service("executions", parts, "principals", **settings))


@pytest.fixture(scope="module")
def admin(guarded: Served) -> AdminServiceStub:
    return AdminServiceStub(guarded.channel)


async def launched(admin: AdminServiceStub, name: str, caller: Metadata) -> Execution:
    """Launch an execution that claims another principal, and read it back."""
    request = launch(name)
    request.spec.metadata.principal = "root"
    request.spec.security_context.run_as.execution_identity = "root"
    await admin.CreateExecution(request, metadata=caller)
    return await get(admin, name)


async def get(admin: AdminServiceStub, name: str) -> Execution:
    found: Execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id(name)), metadata=ANN)
    return found


async def of_user(admin: AdminServiceStub, user: str) -> set[str]:
    """Return the executions that the filter `user` finds."""
    request = ResourceListRequest(
        id=NamedEntityIdentifier(project=PROJECT, domain=DOMAIN), filters=f"eq(user,{user})", limit=10
    )
    listed = await admin.ListExecutions(request, metadata=ANN)
    return {each.id.name for each in listed.executions}


async def test_the_caller_is_the_principal_of_a_launch_and_the_user_of_filters(admin: AdminServiceStub) -> None:
    execution = await launched(admin, "of-ann", ANN)
    assert execution.spec.metadata.principal == "ann"
    assert execution.spec.security_context.run_as.execution_identity == "ann"
    assert execution.closure.state_change_details.principal == "ann"
    assert await of_user(admin, "ann") == {"of-ann"}
    assert await of_user(admin, "root") == set()


async def test_a_relaunch_has_the_principal_of_its_own_caller(admin: AdminServiceStub) -> None:
    await launched(admin, "first", ANN)
    request = ExecutionRelaunchRequest(id=execution_id("first"), name="again")
    await admin.RelaunchExecution(request, metadata=BEN)
    execution = await get(admin, "again")
    assert execution.spec.metadata.principal == "ben"
    assert execution.spec.security_context.run_as.execution_identity == "ben"


async def test_an_abort_and_a_change_of_state_have_their_callers(admin: AdminServiceStub) -> None:
    await launched(admin, "changed", ANN)
    await admin.UpdateExecution(
        ExecutionUpdateRequest(id=execution_id("changed"), state=EXECUTION_ARCHIVED), metadata=BEN
    )
    await admin.TerminateExecution(ExecutionTerminateRequest(id=execution_id("changed"), cause="c"), metadata=BEN)
    execution = await get(admin, "changed")
    assert execution.spec.metadata.principal == "ann"
    assert execution.closure.state_change_details.principal == "ben"
    assert execution.closure.abort_metadata.principal == "ben"


async def test_a_call_past_the_gateway_is_refused(admin: AdminServiceStub) -> None:
    for caller in ((), tuple(sent_by_gateway("not the secret", sub="root").items())):
        call = admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id("of-ann")), metadata=caller)
        await refused(call, grpc.StatusCode.UNAUTHENTICATED, "only the gateway may call this port")
