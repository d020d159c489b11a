"""Launches, relaunches and recoveries through the gateway: the stored executions, field by field.

executions.md#execution-configuration, executions.md#execution-metadata-and-parent,
executions.md#labels-annotations-and-clusters, executions.md#single-tasks, executions.md#new-executions,
executions.md#relaunchexecution-and-recoverexecution.
"""

from typing import Any

import httpx
import psycopg
import pytest
from flyteidl.admin.common_pb2 import (
    Annotations,
    Envs,
    Labels,
    NamedEntityGetRequest,
    NamedEntityIdentifier,
    NamedEntityListRequest,
    NamedEntityState,
    Notification,
    ObjectGetRequest,
    RawOutputDataConfig,
)
from flyteidl.admin.execution_pb2 import (
    EXECUTION_ACTIVE,
    Execution,
    ExecutionCreateRequest,
    ExecutionMetadata,
    ExecutionRecoverRequest,
    ExecutionRelaunchRequest,
    ExecutionSpec,
    NotificationList,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import KeyValuePair, Literal, LiteralMap, Primitive, Scalar
from flyteidl.core.security_pb2 import Identity, SecurityContext
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue

from bench.fill import database
from tests.support import entities
from tests.support.entities import DOMAIN, PROJECT, identifier, integer, literals
from tests.support.executions import execution_id
from tests.support.sandbox import Sandbox

SINGLE = identifier(ResourceType.TASK, "my.launched_task")

# Lists in lists, as inputs in a spec; one more is more than requests may nest.
DEEPEST = 42


def mail(address: str) -> Notification:
    notification = Notification(phases=[WorkflowExecution.FAILED])
    notification.email.recipients_email.append(address)
    return notification


def full_spec(plan: Identifier) -> ExecutionSpec:
    """Return a spec with every field that a client may set."""
    return ExecutionSpec(
        launch_plan=plan,
        metadata=ExecutionMetadata(
            mode=ExecutionMetadata.SCHEDULED,
            principal="placeholder",
            nesting=2,
            scheduled_at=Timestamp(seconds=1_700_000_000),
        ),
        notifications=NotificationList(notifications=[mail("a@example.com")]),
        labels=Labels(values={"team": "a"}),
        annotations=Annotations(values={"note": "ünïcode"}),
        security_context=SecurityContext(run_as=Identity(k8s_service_account="robot")),
        max_parallelism=4,
        raw_output_data_config=RawOutputDataConfig(output_location_prefix="s3://raw"),
        interruptible=BoolValue(value=False),
        overwrite_cache=True,
        envs=Envs(values=[KeyValuePair(key="E", value="1")]),
        tags=["nightly", "ナイト"],
    )


async def got(admin: AdminServiceStub, id_: WorkflowExecutionIdentifier) -> Execution:
    execution: Execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=id_))
    return execution


async def inputs_of(admin: AdminServiceStub, id_: WorkflowExecutionIdentifier) -> LiteralMap:
    inputs: LiteralMap = (await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=id_))).full_inputs
    return inputs


def tags_of(sandbox: Sandbox, name: str) -> set[tuple[Any, ...]]:
    with psycopg.connect(database(sandbox.folder, "executions")) as connection:
        return set(
            connection.execute("SELECT key, value FROM execution_tags WHERE execution_name = %s", [name]).fetchall()
        )


def as_stored(id_: WorkflowExecutionIdentifier, spec: ExecutionSpec, stored: Execution) -> Execution:
    """Return the execution to be stored for `spec`, with the time of `stored`."""
    expected = Execution(id=id_, spec=spec)
    expected.spec.metadata.principal = ""
    expected.spec.metadata.system_metadata.namespace = f"{PROJECT}-{DOMAIN}"
    closure = expected.closure
    closure.phase = WorkflowExecution.UNDEFINED
    closure.workflow_id.CopyFrom(identifier(ResourceType.WORKFLOW, "stack.report"))
    closure.notifications.extend(spec.notifications.notifications)
    closure.state_change_details.state = EXECUTION_ACTIVE
    for moment in (closure.created_at, closure.updated_at, closure.state_change_details.occurred_at):
        moment.CopyFrom(stored.closure.created_at)
    return expected


async def test_fields_of_a_launch_are_stored_as_documented(
    admin: AdminServiceStub, sandbox: Sandbox, plums: Identifier
) -> None:
    spec = full_spec(plums)
    request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=spec, inputs=literals(count=5))
    request.spec.metadata.artifact_ids.add(version="1")
    id_ = (await admin.CreateExecution(request)).id
    stored = await got(admin, id_)
    assert stored == as_stored(id_, spec, stored)
    assert stored.closure.created_at.seconds > 0
    assert await inputs_of(admin, id_) == literals(count=5, unit="plums")
    assert tags_of(sandbox, id_.name) == {("team", "a"), ("nightly", ""), ("ナイト", "")}


async def test_unset_fields_of_a_launch_are_filled_in_as_documented(admin: AdminServiceStub, plums: Identifier) -> None:
    request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=plums))
    id_ = (await admin.CreateExecution(request)).id
    stored = await got(admin, id_)
    spec = ExecutionSpec(launch_plan=plums, max_parallelism=25)
    spec.security_context.run_as.SetInParent()
    assert stored == as_stored(id_, spec, stored)
    assert await inputs_of(admin, id_) == literals(count=3, unit="plums")


async def test_launch_of_the_console_over_rest_has_inputs_in_the_spec(
    admin: AdminServiceStub, sandbox: Sandbox, plums: Identifier
) -> None:
    spec = full_spec(plums)
    spec.inputs.CopyFrom(literals(count=8))
    body = json_format.MessageToDict(ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=spec))
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        response = await client.post("executions", json=body)
        assert response.status_code == 200, response.text
        id_ = execution_id(response.json()["id"]["name"])
        shown = await client.get(f"executions/{PROJECT}/{DOMAIN}/{id_.name}")
    stored = await got(admin, id_)
    assert stored == as_stored(id_, spec, stored)
    assert json_format.Parse(shown.text, Execution()) == stored
    assert await inputs_of(admin, id_) == literals(count=8, unit="plums")


@pytest.mark.parametrize("over", ["grpc", "rest"])
async def test_relaunch_copies_everything_that_the_request_does_not_set(
    over: str, admin: AdminServiceStub, sandbox: Sandbox, plums: Identifier
) -> None:
    spec = full_spec(plums)
    create = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=spec, inputs=literals(count=5))
    source = (await admin.CreateExecution(create)).id
    request = ExecutionRelaunchRequest(id=source)
    if over == "grpc":
        id_ = (await admin.RelaunchExecution(request)).id
    else:
        async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
            response = await client.post("executions/relaunch", json=json_format.MessageToDict(request))
        id_ = execution_id(response.json()["id"]["name"])
    stored = await got(admin, id_)
    spec.metadata.mode = ExecutionMetadata.RELAUNCH
    spec.metadata.reference_execution.CopyFrom(source)
    spec.overwrite_cache = False
    assert stored == as_stored(id_, spec, stored)
    assert await inputs_of(admin, id_) == literals(count=5, unit="plums")
    assert tags_of(sandbox, id_.name) == tags_of(sandbox, source.name)


@pytest.mark.parametrize("over", ["grpc", "rest"])
async def test_recovery_copies_everything(
    over: str, admin: AdminServiceStub, sandbox: Sandbox, plums: Identifier
) -> None:
    spec = full_spec(plums)
    create = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=spec, inputs=literals(count=5))
    source = (await admin.CreateExecution(create)).id
    request = ExecutionRecoverRequest(id=source)
    if over == "grpc":
        id_ = (await admin.RecoverExecution(request)).id
    else:
        async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
            response = await client.post("executions/recover", json=json_format.MessageToDict(request))
        id_ = execution_id(response.json()["id"]["name"])
    stored = await got(admin, id_)
    spec.metadata.mode = ExecutionMetadata.RECOVERED
    spec.metadata.reference_execution.CopyFrom(source)
    assert stored == as_stored(id_, spec, stored)
    assert await inputs_of(admin, id_) == literals(count=5, unit="plums")


async def test_single_task_runs_in_a_workflow_that_lists_of_names_hide(admin: AdminServiceStub) -> None:
    create = entities.task(SINGLE.name, {"a": entities.INTEGER}, {"b": entities.INTEGER})
    metadata = create.spec.template.metadata
    metadata.retries.retries, metadata.interruptible, metadata.timeout.seconds = 7, False, 90
    await admin.CreateTask(create)
    request = ExecutionCreateRequest(
        project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=SINGLE), inputs=literals(a=1)
    )
    id_ = (await admin.CreateExecution(request)).id
    stored = await got(admin, id_)
    workflow = identifier(ResourceType.WORKFLOW, f".flytegen.{SINGLE.name}")
    assert (stored.spec.launch_plan, stored.spec.max_parallelism) == (SINGLE, 0)
    assert stored.closure.workflow_id == workflow
    compiled = (await admin.GetWorkflow(ObjectGetRequest(id=workflow))).closure.compiled_workflow.primary.template
    (node,) = (node for node in compiled.nodes if node.HasField("task_node"))
    assert (node.id, node.metadata.name, node.metadata.retries.retries) == ("mylaunchedtask", "mylaunchedtask", 7)
    assert (node.metadata.WhichOneof("interruptible_value"), node.metadata.timeout.seconds) == ("interruptible", 90)
    plan_id = identifier(ResourceType.LAUNCH_PLAN, workflow.name)
    plan = await admin.GetLaunchPlan(ObjectGetRequest(id=plan_id))
    assert plan.spec.workflow_id.name == SINGLE.name
    for kind in (ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN):
        named = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=workflow.name)
        entity = await admin.GetNamedEntity(NamedEntityGetRequest(resource_type=kind, id=named))
        assert entity.metadata.state == NamedEntityState.SYSTEM_GENERATED
        page = NamedEntityListRequest(resource_type=kind, project=PROJECT, domain=DOMAIN, limit=1000)
        listed = (await admin.ListNamedEntities(page)).entities
        assert listed
        assert workflow.name not in {entity.id.name for entity in listed}


async def test_unusual_numbers_that_json_can_represent_are_stored(admin: AdminServiceStub, sandbox: Sandbox) -> None:
    types = {"nan": LiteralType(simple=SimpleType.FLOAT), "inf": LiteralType(simple=SimpleType.FLOAT)}
    task = entities.task("odd.inputs", types, {})
    await admin.CreateTask(task)
    inputs = LiteralMap(
        literals={name: Literal(scalar=Scalar(primitive=Primitive(float_value=float(name)))) for name in types}
    )
    request = ExecutionCreateRequest(
        project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=task.id), inputs=inputs
    )
    id_ = (await admin.CreateExecution(request)).id
    stored = await inputs_of(admin, id_)
    assert stored.SerializeToString(deterministic=True) == inputs.SerializeToString(deterministic=True)
    assert await listed_over_rest(sandbox, id_) == await got(admin, id_)


async def listed_over_rest(sandbox: Sandbox, id_: WorkflowExecutionIdentifier) -> Execution:
    """Return the execution as read over REST; check that a list with it is read too."""
    path = f"executions/{PROJECT}/{DOMAIN}"
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        page = await client.get(path, params={"limit": 5, "filters": f"eq(execution_name,{id_.name})"})
        single = await client.get(f"{path}/{id_.name}")
    assert (page.status_code, single.status_code) == (200, 200), (page.text, single.text)
    assert [listed["id"] for listed in page.json()["executions"]] == [single.json()["id"]]
    return json_format.Parse(single.text, Execution(), max_recursion_depth=1000)


async def test_execution_with_deeply_nested_inputs_in_its_spec_can_be_read_over_rest(
    admin: AdminServiceStub, sandbox: Sandbox
) -> None:
    value, of = integer(1), entities.INTEGER
    for _ in range(DEEPEST):
        value, inner = Literal(), value
        value.collection.literals.append(inner)
        of = LiteralType(collection_type=of)
    task = entities.task("deep.inputs", {"a": of}, {})
    await admin.CreateTask(task)
    spec = ExecutionSpec(launch_plan=task.id, inputs=LiteralMap(literals={"a": value}))
    created = await admin.CreateExecution(ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=spec))
    assert await listed_over_rest(sandbox, created.id) == await got(admin, created.id)
