"""Rows as large as a message can make them: every client can still receive every list, page by page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest
from flyteidl.admin.description_entity_pb2 import DescriptionEntityListRequest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import ListMatchableAttributesRequest, MatchableResource
from flyteidl.admin.node_execution_pb2 import NodeExecutionListRequest
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest, SignalListRequest, SignalSetRequest
from flyteidl.admin.task_execution_pb2 import TaskExecutionListRequest
from flyteidl.admin.workflow_attributes_pb2 import WorkflowAttributes, WorkflowAttributesUpdateRequest
from flyteidl.core.identifier_pb2 import ResourceType, SignalIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.signal_pb2_grpc import SignalServiceStub

from tests.integration.attacks.running import PLAN, events, running
from tests.support import entities
from tests.support.entities import DOMAIN, PROJECT, STRING
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("plan")  # which is launched

LARGE = "x" * 1_500_000
ROWS = 4  # more than any client receives at once
Walked = tuple[Callable[[Any], Awaitable[Any]], Any, str]


@pytest.fixture(name="channel")
async def _channel(attacked: Sandbox) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(attacked.target) as channel:  # which receives 4 MiB
        yield channel


def _id(name: str) -> NamedEntityIdentifier:
    return NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)


async def _tasks(admin: AdminServiceStub, name: str) -> Walked:
    for number in range(ROWS):
        request = entities.task(name, {}, {}, version=f"v{number}", image=LARGE)
        request.spec.description.long_description.value = LARGE
        await admin.CreateTask(request)
    return admin.ListTasks, ResourceListRequest(id=_id(name)), "tasks"


async def _descriptions(admin: AdminServiceStub, name: str) -> Walked:
    await _tasks(admin, name)
    request = DescriptionEntityListRequest(resource_type=ResourceType.TASK, id=_id(name))
    return admin.ListDescriptionEntities, request, "descriptionEntities"


async def _workflows(admin: AdminServiceStub, name: str) -> Walked:
    await admin.CreateTask(entities.task(name, {}, {}))
    for number in range(ROWS):
        nodes = [entities.task_node("n0", name)]
        request = entities.workflow(name, {"a": STRING}, {}, nodes, [], version=f"v{number}")
        request.spec.template.interface.inputs.variables["a"].description = LARGE
        await admin.CreateWorkflow(request)
    return admin.ListWorkflows, ResourceListRequest(id=_id(name)), "workflows"


async def _launch_plans(admin: AdminServiceStub, name: str) -> Walked:
    await admin.CreateTask(entities.task(name, {}, {}))
    for number in range(ROWS):
        version = f"v{number}"
        await admin.CreateWorkflow(
            entities.workflow(name, {"a": STRING}, {}, [entities.task_node("n0", name)], [], version=version)
        )
        fixed = entities.literals(a=f"{number}{LARGE}")
        await admin.CreateLaunchPlan(entities.launch_plan(name, name, fixed=fixed, version=version))
    return admin.ListLaunchPlans, ResourceListRequest(id=_id(name)), "launch_plans"


async def _executions(admin: AdminServiceStub, _name: str) -> Walked:
    await running(admin)
    spec = ExecutionSpec(launch_plan=PLAN)
    spec.annotations.values["large"] = LARGE[:200_000]
    for _ in range(20):
        await admin.CreateExecution(ExecutionCreateRequest(project=PROJECT, domain="production", spec=spec))
    where = NamedEntityIdentifier(project=PROJECT, domain="production")
    return admin.ListExecutions, ResourceListRequest(id=where), "executions"


async def _nodes(admin: AdminServiceStub, _name: str) -> Walked:
    execution = await running(admin)
    for number in range(ROWS):
        request: Any = events(execution)["CreateNodeEvent"]
        request.event.id.node_id, request.event.deck_uri = f"large{number}", LARGE
        await admin.CreateNodeEvent(request)
    return admin.ListNodeExecutions, NodeExecutionListRequest(workflow_execution_id=execution), "node_executions"


async def _attempts(admin: AdminServiceStub, _name: str) -> Walked:
    execution = await running(admin)
    for number in range(ROWS):
        request: Any = events(execution)["CreateTaskEvent"]
        request.event.retry_attempt = number + 1
        for index in range(20):  # these are stored apart from the attempt
            request.event.metadata.external_resources.add(index=index, external_id=LARGE[: len(LARGE) // 20])
        await admin.CreateTaskEvent(request)
    node = request.event.parent_node_execution_id
    return admin.ListTaskExecutions, TaskExecutionListRequest(node_execution_id=node), "task_executions"


LISTS = [_tasks, _descriptions, _workflows, _launch_plans, _executions, _nodes, _attempts]


async def _walk(walked: Walked) -> None:
    """Read the list to its end; every row comes once, and no page is larger than clients can receive."""
    listed, request, rows = walked
    request.limit = 100
    met: list[bytes] = []
    pages = 0
    while True:
        page = await listed(request)
        met += [row.id.SerializeToString() for row in getattr(page, rows)]
        pages += 1
        if not page.token:
            break
        request.token = page.token
    assert len(met) == len(set(met)) >= ROWS
    assert pages > 1


@pytest.mark.parametrize("make", LISTS)
async def test_lists_of_large_rows_are_received_page_by_page(
    channel: grpc.aio.Channel, make: Callable[[AdminServiceStub, str], Awaitable[Walked]]
) -> None:
    await _walk(await make(AdminServiceStub(channel), f"large_rows.{uuid4().hex}"))


async def test_list_of_large_signals_is_received_page_by_page(channel: grpc.aio.Channel) -> None:
    execution = await running(AdminServiceStub(channel))
    signals = SignalServiceStub(channel)
    for number in range(20):
        signal = SignalIdentifier(signal_id=f"s{number}", execution_id=execution)
        await signals.GetOrCreateSignal(SignalGetOrCreateRequest(id=signal, type=STRING))
        await signals.SetSignal(SignalSetRequest(id=signal, value=entities.string(LARGE[:250_000])))
    await _walk((signals.ListSignals, SignalListRequest(workflow_execution_id=execution), "signals"))


async def test_entity_too_large_for_any_list_is_refused(channel: grpc.aio.Channel) -> None:
    """Responses contain parts of a request twice, or a little more than the request."""
    admin = AdminServiceStub(channel)
    name = f"large_rows.{uuid4().hex}"
    await admin.CreateTask(entities.task(name, {}, {}))
    nodes = [entities.task_node("n0", name)]
    await admin.CreateWorkflow(entities.workflow(name, {"a": STRING}, {}, nodes, []))
    execution = await running(admin)
    nearly = entities.task(name, {}, {}, version="v2")
    nearly.spec.template.container.args.append("x" * (4 * 1024 * 1024 - nearly.ByteSize() - 30))
    spec = ExecutionSpec(launch_plan=PLAN)
    spec.notifications.notifications.add(phases=[4]).email.recipients_email.append(LARGE + LARGE)
    ended: Any = events(execution, "SUCCEEDED")["CreateWorkflowEvent"]
    ended.event.output_uri = LARGE
    bad = {
        "CreateTask": nearly,
        "CreateLaunchPlan": entities.launch_plan(name, name, {"a": (STRING, entities.string(LARGE + LARGE))}),
        "CreateExecution": ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=spec),
        "CreateWorkflowEvent": ended,
    }
    for method, request in bad.items():
        with pytest.raises(grpc.aio.AioRpcError, match="size of") as refused:
            await getattr(admin, method)(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for listed in (admin.ListTasks, admin.ListLaunchPlans, admin.ListExecutions):
        await listed(ResourceListRequest(id=NamedEntityIdentifier(project=PROJECT, domain=DOMAIN), limit=5))


async def test_list_of_attributes_that_is_too_large_is_resource_exhausted(
    attacked: Sandbox, channel: grpc.aio.Channel
) -> None:
    admin = AdminServiceStub(channel)
    for number in range(260):
        attributes = WorkflowAttributes(project=PROJECT, domain=DOMAIN, workflow=f"large{number}")
        attributes.matching_attributes.execution_cluster_label.value = LARGE[:65_000]
        await admin.UpdateWorkflowAttributes(WorkflowAttributesUpdateRequest(attributes=attributes))
    kind = MatchableResource.EXECUTION_CLUSTER_LABEL
    with pytest.raises(grpc.aio.AioRpcError, match="16777216") as refused:
        await admin.ListMatchableAttributes(ListMatchableAttributesRequest(resource_type=kind))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with httpx.AsyncClient(base_url=attacked.url) as rest:
        response = await rest.get("/api/v1/matchable_attributes", params={"resource_type": kind})
    assert response.status_code == httpx.codes.TOO_MANY_REQUESTS
