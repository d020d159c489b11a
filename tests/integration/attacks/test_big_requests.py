"""The largest requests, made to be expensive: each returns soon, and other clients are served meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

import grpc
import psutil
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ObjectGetRequest, ResourceListRequest
from flyteidl.admin.event_pb2 import NodeExecutionEventRequest, TaskExecutionEventRequest, WorkflowExecutionEventRequest
from flyteidl.admin.execution_pb2 import (
    ExecutionCreateRequest,
    ExecutionMetadata,
    ExecutionSpec,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.launch_plan_pb2 import LaunchPlanCreateRequest
from flyteidl.admin.project_attributes_pb2 import ProjectAttributesUpdateRequest
from flyteidl.admin.project_pb2 import ProjectListRequest, ProjectRegisterRequest
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest, SignalSetRequest
from flyteidl.admin.task_pb2 import TaskCreateRequest
from flyteidl.admin.version_pb2 import GetVersionRequest
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution
from flyteidl.core.identifier_pb2 import ResourceType, SignalIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.signal_pb2_grpc import SignalServiceStub
from google.protobuf.message import Message

from tests.support import entities
from tests.support.entities import DOMAIN, INTEGER, PROJECT, identifier
from tests.support.sandbox import Sandbox

# The most that a call takes on a machine that does nothing else.
MOST_PROCESSOR_SECONDS = 2.0
MOST_SECONDS_OF_OTHERS = 2.0
MANY = 100_000
LONG = "x" * 3_900_000
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
NAME = f"big_requests.{uuid4().hex}"
EXECUTION = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=f"big{uuid4().hex[:12]}")
# Lists of the other domain, which other tests read, stay small.
DOMAIN_OF_LARGE = "staging"
WHOLE_DOMAIN = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)

Change = Callable[[Any], object]


def task(change: Change, name: str = "task") -> TaskCreateRequest:
    request = entities.task(f"{NAME}.{name}", {}, {})
    request.id.domain = DOMAIN_OF_LARGE
    change(request.spec.template)
    return request


def pod(change: Change) -> TaskCreateRequest:
    def changed(template: Any) -> None:
        container = template.k8s_pod.pod_spec.fields["containers"].list_value.values.add().struct_value
        container.fields["name"].string_value = "main"
        change(container.fields["resources"].struct_value.fields["limits"].struct_value)

    return task(changed, "pod")


def workflow(change: Change) -> WorkflowCreateRequest:
    request = entities.workflow(f"{NAME}.workflow", {}, {}, [entities.task_node("n", NAME)], [])
    request.id.domain = DOMAIN_OF_LARGE
    change(request.spec.template)
    return request


def plan(change: Change) -> LaunchPlanCreateRequest:
    request = entities.launch_plan(f"{NAME}.plan", NAME)
    request.id.domain = DOMAIN_OF_LARGE
    change(request.spec)
    return request


def execution(change: Change) -> ExecutionCreateRequest:
    spec = ExecutionSpec(launch_plan=identifier(ResourceType.LAUNCH_PLAN, NAME), metadata=ExecutionMetadata())
    request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=spec)
    change(request)
    return request


def signal(change: Change) -> SignalSetRequest:
    request = SignalSetRequest(id=SignalIdentifier(signal_id="s", execution_id=EXECUTION))
    change(request.value)
    return request


def signal_type(change: Change) -> SignalGetOrCreateRequest:
    request = SignalGetOrCreateRequest(id=SignalIdentifier(signal_id="t", execution_id=EXECUTION))
    change(request.type)
    return request


def node_event(change: Change) -> NodeExecutionEventRequest:
    request = NodeExecutionEventRequest()
    request.event.id.node_id, request.event.phase = "n", NodeExecution.RUNNING
    request.event.id.execution_id.CopyFrom(EXECUTION)
    request.event.occurred_at.GetCurrentTime()
    change(request.event)
    return request


def task_event(change: Change) -> TaskExecutionEventRequest:
    request = TaskExecutionEventRequest()
    event = request.event
    event.task_id.CopyFrom(identifier(ResourceType.TASK, NAME))
    event.parent_node_execution_id.node_id, event.phase = "n", TaskExecution.RUNNING
    event.parent_node_execution_id.execution_id.CopyFrom(EXECUTION)
    event.occurred_at.GetCurrentTime()
    change(event)
    return request


def attributes(change: Change) -> ProjectAttributesUpdateRequest:
    request = ProjectAttributesUpdateRequest()
    request.attributes.project = PROJECT
    change(request.attributes.matching_attributes)
    return request


def struct(fields: Any) -> None:
    for number in range(150_000):
        fields[f"k{number}"].number_value = number


def texts(entries: Any) -> None:
    for number in range(MANY):
        entries[f"k{number}"] = "v"


def integers(literals: Any) -> None:
    for number in range(MANY):
        literals[f"k{number}"].scalar.primitive.integer = number


def integer_list(literal: Any) -> None:
    for number in range(2 * MANY):
        literal.collection.literals.add().scalar.primitive.integer = number


def nodes(template: Any) -> None:
    template.nodes.extend(entities.task_node(f"n{number}", NAME) for number in range(20_000))


def struct_list(values: Any) -> None:
    for _ in range(3 * MANY):
        values.add().bool_value = True


def quantities(limits: Any) -> None:
    for number in range(MANY):
        limits.fields[f"k{number}"].string_value = f"{number}Mi"


def bindings(template: Any) -> None:
    template.nodes[0].task_node.reference_id.name = f"{NAME}.list"
    inputs = template.nodes[0].inputs.add(var="x").binding.collection
    for number in range(MANY):
        inputs.bindings.add().scalar.primitive.integer = number


def variants(kind: Any) -> None:
    for _ in range(2 * MANY):
        kind.union_type.variants.add().simple = SimpleType.INTEGER


def other_custom(template: Any) -> None:
    struct(template.custom.fields)
    template.custom.fields["k0"].number_value = -1


def long_error(event: Any) -> None:
    event.phase = NodeExecution.FAILED
    event.error.message = LONG


def filtered(filters: str) -> Callable[[], ResourceListRequest]:
    return lambda: ResourceListRequest(id=WHOLE_DOMAIN, limit=100, filters=filters)


CASES: Mapping[str, tuple[str, str, Callable[[], Message]]] = {
    "custom": ("registry", "CreateTask", lambda: task(lambda made: struct(made.custom.fields))),
    "custom again": ("registry", "CreateTask", lambda: task(lambda made: struct(made.custom.fields))),
    "another custom": ("registry", "CreateTask", lambda: task(other_custom)),
    "config": ("registry", "CreateTask", lambda: task(lambda made: texts(made.config), "config")),
    "list": (
        "registry",
        "CreateTask",
        lambda: task(lambda made: struct_list(made.custom.fields["l"].list_value.values), "values"),
    ),
    "pod": ("registry", "CreateTask", lambda: pod(quantities)),
    "nodes": ("registry", "CreateWorkflow", lambda: workflow(nodes)),
    "bindings": ("registry", "CreateWorkflow", lambda: workflow(bindings)),
    "annotations": ("registry", "CreateLaunchPlan", lambda: plan(lambda spec: texts(spec.annotations.values))),
    "fixed inputs": ("registry", "CreateLaunchPlan", lambda: plan(lambda spec: integers(spec.fixed_inputs.literals))),
    "lines of a filter": ("registry", "ListTasks", filtered("\n" * len(LONG))),
    "inputs": ("executions", "CreateExecution", lambda: execution(lambda made: integers(made.inputs.literals))),
    "input list": (
        "executions",
        "CreateExecution",
        lambda: execution(lambda made: integer_list(made.inputs.literals["x"])),
    ),
    "labels": ("executions", "CreateExecution", lambda: execution(lambda made: texts(made.spec.labels.values))),
    "signal": ("executions", "SetSignal", lambda: signal(lambda value: struct(value.scalar.generic.fields))),
    "signal type": ("executions", "GetOrCreateSignal", lambda: signal_type(variants)),
    "node outputs": (
        "events",
        "CreateNodeEvent",
        lambda: node_event(lambda event: integers(event.output_data.literals)),
    ),
    "node error": (
        "events",
        "CreateNodeEvent",
        lambda: node_event(lambda event: setattr(event.error, "message", LONG)),
    ),
    "task info": ("events", "CreateTaskEvent", lambda: task_event(lambda event: struct(event.custom_info.fields))),
    "attributes": (
        "projects",
        "UpdateProjectAttributes",
        lambda: attributes(lambda made: texts(made.cluster_resource_attributes.attributes)),
    ),
    "lines of a project filter": (
        "projects",
        "ListProjects",
        lambda: ProjectListRequest(limit=1, filters="\n" * len(LONG)),
    ),
    "description": (
        "projects",
        "RegisterProject",
        lambda: ProjectRegisterRequest(project={"id": "big", "name": "big", "description": LONG}),
    ),
}


@pytest.fixture(name="known", scope="module", autouse=True)
async def _known(attacked: Sandbox) -> None:
    """Register the entities of the requests."""
    lists = {"x": LiteralType(collection_type=INTEGER)}
    async with attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        await admin.CreateTask(entities.task(NAME, {}, {}))
        await admin.CreateTask(entities.task(f"{NAME}.list", lists, {}))
        await admin.CreateWorkflow(entities.workflow(NAME, lists, {}, [entities.task_node("n", NAME)], []))
        await admin.CreateLaunchPlan(entities.launch_plan(NAME, NAME))

        def named(request: Any) -> None:
            request.name = EXECUTION.name
            request.inputs.literals["x"].collection.SetInParent()

        await admin.CreateExecution(execution(named))
        request = SignalGetOrCreateRequest(id=SignalIdentifier(signal_id="s", execution_id=EXECUTION), type=INTEGER)
        await SignalServiceStub(channel).GetOrCreateSignal(request)


@pytest.fixture(name="others")
async def _others(attacked: Sandbox) -> AsyncIterator[Mapping[str, Callable[[], Awaitable[object]]]]:
    """Yield a small call to each service on a connection of its own."""
    async with attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        yield {
            "registry": lambda: admin.GetTask(ObjectGetRequest(id=identifier(ResourceType.TASK, NAME))),
            "executions": lambda: admin.GetExecution(WorkflowExecutionGetRequest(id=EXECUTION)),
            "events": lambda: admin.CreateWorkflowEvent(WorkflowExecutionEventRequest()),
            "projects": lambda: admin.GetVersion(GetVersionRequest()),
        }


@pytest.mark.parametrize("case", CASES)
async def test_large_request_returns_soon_and_delays_no_other_client(
    attacked: Sandbox, others: Mapping[str, Callable[[], Awaitable[object]]], case: str
) -> None:
    owner, method, make = CASES[case]
    request = make().SerializeToString()
    service = psutil.Process(attacked.pid(owner))

    def spent() -> float:
        times = service.cpu_times()
        return float(times.user + times.system)

    async with grpc.aio.insecure_channel(attacked.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        where = "SignalService" if "Signal" in method else "AdminService"
        call = channel.unary_unary(f"/flyteidl.service.{where}/{method}", bytes, bytes)
        before, worst = spent(), 0.0
        code = asyncio.ensure_future(call(request, timeout=60).code())
        while not code.done():
            begun = time.monotonic()
            try:
                await others[owner]()
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017  # from the events service
            worst = max(worst, time.monotonic() - begun)
    assert await code not in NEVER
    assert spent() - before < MOST_PROCESSOR_SECONDS
    assert worst < MOST_SECONDS_OF_OTHERS
