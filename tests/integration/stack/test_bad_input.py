"""Bad input on each RPC of the main path, through the gateway: code and message as documented, and nothing stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin import (
    common_pb2,
    description_entity_pb2,
    event_pb2,
    execution_pb2,
    launch_plan_pb2,
    node_execution_pb2,
    project_pb2,
    task_execution_pb2,
    task_pb2,
    workflow_pb2,
)
from flyteidl.admin.schedule_pb2 import CronSchedule, FixedRate, Schedule
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.event import event_pb2 as events
from flyteidl.service import dataproxy_pb2
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support import entities
from tests.support.entities import DOMAIN, INTEGER, PROJECT, identifier
from tests.support.sandbox import Sandbox

TASK, WORKFLOW, LAUNCH_PLAN = ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN
INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
NOW = Timestamp(seconds=1_700_000_000)

NOWHERE = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name="nowhere")
NO_NODE = NodeExecutionIdentifier(execution_id=NOWHERE, node_id="n0")
NO_NAME = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="bad_input.nothing")
NO_TASK = TaskExecutionIdentifier(task_id=identifier(TASK, "t"), node_execution_id=NO_NODE, retry_attempt=0)


@dataclass(frozen=True)
class Case:
    rpc: str
    request: Any
    code: grpc.StatusCode
    message: str

    def __str__(self) -> str:
        return f"{self.rpc}: {self.message[:50]}"


def task(change: Callable[[task_pb2.TaskCreateRequest], object]) -> task_pb2.TaskCreateRequest:
    request = entities.task("bad_input.task", {"a": INTEGER}, {"b": INTEGER})
    change(request)
    return request


def workflow(change: Callable[[workflow_pb2.WorkflowCreateRequest], object]) -> workflow_pb2.WorkflowCreateRequest:
    request = entities.workflow("bad_input.workflow", {}, {}, [entities.task_node("n0", "bad_input.never")], [])
    change(request)
    return request


def plan(
    change: Callable[[launch_plan_pb2.LaunchPlanCreateRequest], object],
) -> launch_plan_pb2.LaunchPlanCreateRequest:
    request = entities.launch_plan("bad_input.plan", "bad_input.never")
    change(request)
    return request


def project(**fields: Any) -> project_pb2.ProjectRegisterRequest:
    return project_pb2.ProjectRegisterRequest(project=project_pb2.Project(**{"id": "bad-input", "name": "x", **fields}))


def get(kind: ResourceType, **changes: str) -> common_pb2.ObjectGetRequest:
    wanted = identifier(kind, "bad_input.nothing")
    for name, value in changes.items():
        setattr(wanted, name, value)
    return common_pb2.ObjectGetRequest(id=wanted)


def node_event(**fields: Any) -> event_pb2.NodeExecutionEventRequest:
    whole = {"id": NO_NODE, "phase": NodeExecution.RUNNING, "occurred_at": NOW, **fields}
    return event_pb2.NodeExecutionEventRequest(event=events.NodeExecutionEvent(**whole))


def task_event(**fields: Any) -> event_pb2.TaskExecutionEventRequest:
    whole = {
        "task_id": identifier(TASK, "t"),
        "parent_node_execution_id": NO_NODE,
        "phase": TaskExecution.RUNNING,
        "occurred_at": NOW,
        **fields,
    }
    return event_pb2.TaskExecutionEventRequest(event=events.TaskExecutionEvent(**whole))


def workflow_event(**fields: Any) -> event_pb2.WorkflowExecutionEventRequest:
    whole = {"execution_id": NOWHERE, "phase": WorkflowExecution.RUNNING, "occurred_at": NOW, **fields}
    return event_pb2.WorkflowExecutionEventRequest(event=events.WorkflowExecutionEvent(**whole))


def listed(**fields: Any) -> common_pb2.ResourceListRequest:
    scope = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    return common_pb2.ResourceListRequest(**{"id": scope, "limit": 10, **fields})


def ids(**fields: Any) -> common_pb2.NamedEntityIdentifierListRequest:
    return common_pb2.NamedEntityIdentifierListRequest(**{"project": PROJECT, "domain": DOMAIN, "limit": 10, **fields})


def names(**fields: Any) -> common_pb2.NamedEntityListRequest:
    whole = {"resource_type": TASK, "project": PROJECT, "domain": DOMAIN, "limit": 10, **fields}
    return common_pb2.NamedEntityListRequest(**whole)


def rename(description: str = "new", **fields: Any) -> common_pb2.NamedEntityUpdateRequest:
    metadata = common_pb2.NamedEntityMetadata(description=description)
    whole = {"resource_type": TASK, "id": NO_NAME, "metadata": metadata, **fields}
    return common_pb2.NamedEntityUpdateRequest(**whole)


Sort = common_pb2.Sort
CASES = [
    # projects.md#registerproject, projects.md#getproject
    Case("RegisterProject", project_pb2.ProjectRegisterRequest(), INVALID, "missing project"),
    Case("RegisterProject", project(name=""), INVALID, "missing project_name"),
    Case("RegisterProject", project(id=""), INVALID, "missing project_id"),
    Case("RegisterProject", project(id="Ü"), INVALID, "invalid project id [Ü]"),
    Case("RegisterProject", project(name="x" * 65), INVALID, "project_name cannot exceed 64 characters"),
    Case("RegisterProject", project(description="x" * 301), INVALID, "project_description cannot exceed 300"),
    Case(
        "RegisterProject",
        project(labels=common_pb2.Labels(values={"foo": "#bar"})),
        INVALID,
        "invalid label value [#bar]: [a valid label must be an empty string or consist of",
    ),
    Case("RegisterProject", project(domains=[project_pb2.Domain(id="x")]), INVALID, "Domains are currently only set"),
    Case("GetProject", project_pb2.ProjectGetRequest(), INVALID, "missing project_id"),
    Case("GetProject", project_pb2.ProjectGetRequest(id="nothing"), MISSING, "project [nothing] not found"),
    Case("ListProjects", project_pb2.ProjectListRequest(filters="x"), INVALID, "invalid value for filters"),
    Case("ListProjects", project_pb2.ProjectListRequest(sort_by=Sort(key="x")), INVALID, "invalid sort key 'x'"),
    Case("ListProjects", project_pb2.ProjectListRequest(token="x"), INVALID, "invalid pagination token x for ListP"),
    # common.md#identifiers, registry.md#createtask
    Case("CreateTask", task_pb2.TaskCreateRequest(), INVALID, "missing id"),
    Case("CreateTask", task(lambda r: r.id.ClearField("resource_type")), INVALID, "unexpected resource type"),
    Case("CreateTask", task(lambda r: r.id.ClearField("version")), INVALID, "missing version"),
    Case("CreateTask", task(lambda r: setattr(r.id, "project", "nothing")), INVALID, "failed to validate that project"),
    Case("CreateTask", task(lambda r: setattr(r.id, "domain", "nothing")), INVALID, "domain [nothing] is unrecognized"),
    Case("CreateTask", task(lambda r: r.ClearField("spec")), INVALID, "missing spec"),
    Case("CreateTask", task(lambda r: r.spec.template.ClearField("type")), INVALID, "missing type"),
    Case("CreateTask", task(lambda r: r.spec.template.ClearField("metadata")), INVALID, "missing metadata"),
    Case("CreateTask", task(lambda r: r.spec.template.ClearField("interface")), INVALID, "missing typed interface"),
    Case("CreateTask", task(lambda r: r.spec.template.container.ClearField("image")), INVALID, "missing image"),
    Case(
        "CreateTask", task(lambda r: r.spec.template.container.ClearField("args")), INVALID, "task failed compilation"
    ),
    Case("CreateTask", task(lambda r: setattr(r.id, "name", "n" * 256)), INVALID, "name"),
    Case("GetTask", common_pb2.ObjectGetRequest(), INVALID, "missing id"),
    Case("GetTask", get(TASK, version=""), INVALID, "missing version"),
    Case("GetTask", get(TASK), MISSING, "missing entity of type TASK with identifier"),
    # registry.md#createworkflow
    Case("CreateWorkflow", workflow_pb2.WorkflowCreateRequest(), INVALID, "missing id"),
    Case("CreateWorkflow", workflow(lambda r: r.ClearField("spec")), INVALID, "missing spec"),
    Case("CreateWorkflow", workflow(lambda _: None), INVALID, "failed to compile workflow for"),
    Case("CreateWorkflow", workflow(lambda r: r.spec.template.ClearField("nodes")), INVALID, "NoNodesFound"),
    Case("GetWorkflow", get(WORKFLOW, name=""), INVALID, "missing name"),
    Case("GetWorkflow", get(WORKFLOW), MISSING, "missing entity of type WORKFLOW with identifier"),
    # registry.md#createlaunchplan
    Case("CreateLaunchPlan", launch_plan_pb2.LaunchPlanCreateRequest(), INVALID, "missing id"),
    Case("CreateLaunchPlan", plan(lambda _: None), MISSING, "missing entity of type WORKFLOW with identifier"),
    Case("GetLaunchPlan", get(LAUNCH_PLAN, domain=""), INVALID, "missing domain"),
    Case("GetLaunchPlan", get(LAUNCH_PLAN), MISSING, "missing entity of type LAUNCH_PLAN with identifier"),
    Case("GetActiveLaunchPlan", launch_plan_pb2.ActiveLaunchPlanRequest(), INVALID, "missing project"),
    Case(
        "GetActiveLaunchPlan",
        launch_plan_pb2.ActiveLaunchPlanRequest(
            id=common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="nothing")
        ),
        MISSING,
        f"No active launch plan could be found: {PROJECT}:{DOMAIN}:nothing",
    ),
    Case("UpdateLaunchPlan", launch_plan_pb2.LaunchPlanUpdateRequest(), INVALID, "missing id"),
    Case(
        "UpdateLaunchPlan",
        launch_plan_pb2.LaunchPlanUpdateRequest(id=identifier(LAUNCH_PLAN, "nothing"), state=launch_plan_pb2.ACTIVE),
        MISSING,
        "missing entity of type LAUNCH_PLAN",
    ),
    # lists.md#version-lists, registry.md#named-entities, registry.md#description-entities
    Case("ListTaskIds", ids(project=""), INVALID, "missing project"),
    Case("ListWorkflowIds", ids(domain=""), INVALID, "missing domain"),
    Case("ListLaunchPlanIds", ids(project="", domain=""), INVALID, "missing and/or invalid parameters: filters"),
    Case("ListTaskIds", ids(filters="eq(named_entity_metadata.state,x)"), INVALID, "'x' is not a value of state"),
    Case("GetNamedEntity", common_pb2.NamedEntityGetRequest(), INVALID, "invalid value for resource_type"),
    Case("GetNamedEntity", common_pb2.NamedEntityGetRequest(resource_type=TASK), INVALID, "missing id"),
    Case(
        "GetNamedEntity", common_pb2.NamedEntityGetRequest(resource_type=TASK, id=NO_NAME), MISSING, "entry not found"
    ),
    Case("UpdateNamedEntity", common_pb2.NamedEntityUpdateRequest(), INVALID, "invalid value for resource_type"),
    Case("UpdateNamedEntity", rename(metadata=None), INVALID, "missing metadata"),
    Case("UpdateNamedEntity", rename(description="x" * 301), INVALID, "description cannot exceed 300 characters"),
    Case("UpdateNamedEntity", rename(), MISSING, "entry not found"),
    Case("ListNamedEntities", common_pb2.NamedEntityListRequest(), INVALID, "missing project"),
    Case("ListNamedEntities", names(resource_type=ResourceType.UNSPECIFIED), INVALID, "invalid value for resource_typ"),
    Case("ListNamedEntities", names(resource_type=ResourceType.DATASET), INVALID, "Cannot list entity names for resou"),
    Case("ListNamedEntities", names(filters="("), INVALID, "invalid value for filters"),
    Case("ListNamedEntities", names(sort_by=Sort(key="state")), INVALID, "invalid sort key 'state'"),
    Case("GetDescriptionEntity", common_pb2.ObjectGetRequest(), INVALID, "invalid value for resource_type"),
    Case("GetDescriptionEntity", get(TASK, version=""), INVALID, "missing version"),
    Case("GetDescriptionEntity", get(TASK), MISSING, "entry not found"),
    Case(
        "ListDescriptionEntities", description_entity_pb2.DescriptionEntityListRequest(limit=1), INVALID, "missing id"
    ),
    # executions.md#getexecution, lists.md#listexecutions; test_bad_launches.py has launches
    Case("GetExecution", execution_pb2.WorkflowExecutionGetRequest(), INVALID, "missing"),
    Case("GetExecution", execution_pb2.WorkflowExecutionGetRequest(id=NOWHERE), MISSING, "missing entity of type exec"),
    Case("GetExecutionData", execution_pb2.WorkflowExecutionGetDataRequest(), INVALID, "missing"),
    Case("GetExecutionData", execution_pb2.WorkflowExecutionGetDataRequest(id=NOWHERE), MISSING, "missing entity of"),
    Case("ListExecutions", common_pb2.ResourceListRequest(limit=1), INVALID, "missing id"),
    Case("ListExecutions", listed(filters="eq(name,x)"), INVALID, "'e.name' is invalid filter"),
    Case("ListExecutions", listed(filters="eq(project.name,x)"), INVALID, "'p' entity is not allowed in filters"),
    Case("ListExecutions", listed(sort_by=Sort(key="")), INVALID, "invalid sort key ''"),
    Case("ListExecutions", listed(token="-1"), INVALID, "invalid pagination token -1 for ListExecutions"),
    # executions.md#node-executions, executions.md#task-executions
    Case("GetNodeExecution", node_execution_pb2.NodeExecutionGetRequest(), INVALID, "missing"),
    Case("GetNodeExecution", node_execution_pb2.NodeExecutionGetRequest(id=NO_NODE), MISSING, "missing entity of type"),
    Case("GetNodeExecutionData", node_execution_pb2.NodeExecutionGetDataRequest(id=NO_NODE), MISSING, "missing entity"),
    Case("ListNodeExecutions", node_execution_pb2.NodeExecutionListRequest(limit=1), INVALID, "missing execution_id"),
    Case("GetTaskExecution", task_execution_pb2.TaskExecutionGetRequest(), INVALID, "missing id"),
    Case("GetTaskExecution", task_execution_pb2.TaskExecutionGetRequest(id=NO_TASK), MISSING, "missing entity of type"),
    Case("GetTaskExecutionData", task_execution_pb2.TaskExecutionGetDataRequest(id=NO_TASK), MISSING, "missing entity"),
    Case("ListTaskExecutions", task_execution_pb2.TaskExecutionListRequest(limit=1), INVALID, "missing id"),
    # executions.md#dataproxyservice
    Case(
        "CreateUploadLocation", dataproxy_pb2.CreateUploadLocationRequest(), INVALID, "project and domain are required"
    ),
    Case(
        "CreateUploadLocation",
        dataproxy_pb2.CreateUploadLocationRequest(project=PROJECT, domain=DOMAIN),
        INVALID,
        "content_md5 or filename_root is a required parameter",
    ),
    Case("CreateDownloadLink", dataproxy_pb2.CreateDownloadLinkRequest(), INVALID, ""),
    # events.md#workflow-event-checks, events.md#node-event-checks, events.md#task-event-checks
    Case("CreateWorkflowEvent", event_pb2.WorkflowExecutionEventRequest(), INVALID, "called without event"),
    Case("CreateWorkflowEvent", workflow_event(execution_id=None), INVALID, "doesn't have an execution id"),
    Case("CreateWorkflowEvent", workflow_event(), MISSING, "missing entity of type execution"),
    Case("CreateNodeEvent", event_pb2.NodeExecutionEventRequest(), INVALID, "missing"),
    Case("CreateNodeEvent", node_event(id=None), INVALID, "missing"),
    Case("CreateNodeEvent", node_event(), MISSING, "execution"),
    Case("CreateTaskEvent", event_pb2.TaskExecutionEventRequest(), INVALID, "missing event"),
    Case("CreateTaskEvent", task_event(occurred_at=None), INVALID, "missing occurred_at"),
    Case("CreateTaskEvent", task_event(parent_node_execution_id=None), INVALID, "missing node_execution_id"),
    Case("CreateTaskEvent", task_event(task_id=None), INVALID, "missing task_id"),
    Case(
        "CreateTaskEvent", task_event(task_id=Identifier(resource_type=WORKFLOW)), INVALID, "unexpected resource type"
    ),
    Case("CreateTaskEvent", task_event(), MISSING, "execution"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_bad_input_is_refused_as_flyteadmin_refuses_it(
    case: Case, admin: AdminServiceStub, data_proxy: DataProxyServiceStub
) -> None:
    call = getattr(admin, case.rpc, None) or getattr(data_proxy, case.rpc)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(case.request)
    assert (refused.value.code(), case.message in (refused.value.details() or "")) == (case.code, True), refused.value


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule(cron_schedule=CronSchedule()), "Invalid cron expression: empty spec string"),
        (Schedule(cron_expression=""), "Invalid cron expression: empty spec string"),
        (
            Schedule(cron_schedule=CronSchedule(schedule="@daily", offset="nonsense")),
            "invalid value for schedule offset: [nonsense] is no ISO 8601 duration",
        ),
        (Schedule(rate=FixedRate()), "invalid value for schedule rate: it must be at least 1"),
    ],
)
async def test_schedule_that_never_fires_is_refused_alike_by_grpc_and_rest(
    schedule: Schedule, message: str, admin: AdminServiceStub, sandbox: Sandbox, plums: Identifier
) -> None:
    assert plums.name == "stack.plums"
    request = entities.launch_plan("bad_input.plan", "stack.report", {"count": (INTEGER, entities.integer(3))})
    request.spec.fixed_inputs.CopyFrom(entities.literals(unit="plums"))
    request.spec.entity_metadata.schedule.CopyFrom(schedule)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await admin.CreateLaunchPlan(request)
    assert (refused.value.code(), refused.value.details()) == (INVALID, message)
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        response = await client.post("launch_plans", json=json_format.MessageToDict(request))
    assert (response.status_code, response.json()["message"]) == (400, message)


async def test_refused_entities_are_not_stored(admin: AdminServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await admin.GetProject(project_pb2.ProjectGetRequest(id="bad-input"))
    assert missing.value.code() is MISSING
    for rpc, kind, name in (
        ("GetTask", TASK, "bad_input.task"),
        ("GetWorkflow", WORKFLOW, "bad_input.workflow"),
        ("GetLaunchPlan", LAUNCH_PLAN, "bad_input.plan"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await getattr(admin, rpc)(common_pb2.ObjectGetRequest(id=identifier(kind, name)))
        assert missing.value.code() is MISSING


async def test_request_that_is_no_message_is_invalid_argument(sandbox: Sandbox) -> None:
    async with sandbox.channel() as channel:
        call = channel.unary_unary("/flyteidl.service.AdminService/CreateTask", None, None)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\xff\xff\xff\xff")
    assert refused.value.code() is INVALID
