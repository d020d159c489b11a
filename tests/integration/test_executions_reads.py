"""Reads, lists, data and changes of executions, nodes and tasks: over gRPC, on rows in a real database."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest, Sort
from flyteidl.admin.event_pb2 import EventFailureReason
from flyteidl.admin.execution_pb2 import (
    EXECUTION_ARCHIVED,
    Execution,
    ExecutionClosure,
    ExecutionSpec,
    ExecutionTerminateRequest,
    ExecutionUpdateRequest,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.node_execution_pb2 import (
    GetDynamicNodeWorkflowRequest,
    NodeExecutionClosure,
    NodeExecutionForTaskListRequest,
    NodeExecutionGetDataRequest,
    NodeExecutionGetRequest,
    NodeExecutionListRequest,
    NodeExecutionMetaData,
)
from flyteidl.admin.task_execution_pb2 import (
    TaskExecutionClosure,
    TaskExecutionGetDataRequest,
    TaskExecutionGetRequest,
    TaskExecutionListRequest,
)
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2 import (
    ARTIFACT_TYPE_DECK,
    CreateDownloadLinkRequest,
    CreateDownloadLocationRequest,
    CreateUploadLocationRequest,
)
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub
from google.protobuf.duration_pb2 import Duration

from services.executions.rules.answers import LISTED_ERROR_BYTES
from tests.support.entities import DOMAIN, PROJECT, identifier, literals
from tests.support.executions import execution_id, node_id, task_id
from tests.support.parts import Parts, Served, service
from tests.support.refusals import detail_of, refused

LONG = "é" * 200
PLACE = {"execution_project": PROJECT, "execution_domain": DOMAIN}


@pytest.fixture(scope="module")
def objects(parts: Parts) -> Path:
    return parts.folder / "read-objects"


@pytest.fixture(scope="module")
async def served(parts: Parts, objects: Path) -> AsyncIterator[Served]:
    async with service(
        "executions", parts, "read_executions", objects_url=f"file://{objects}", signing_key="key"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


@pytest.fixture(scope="module")
def proxy(served: Served) -> DataProxyServiceStub:
    return DataProxyServiceStub(served.channel)


@pytest.fixture(scope="module")
async def database(served: Served) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(served.settings.database_url, autocommit=True) as connection:
        yield connection


async def insert(database: psycopg.AsyncConnection[Any], table: str, **row: Any) -> int:
    """Insert a row; answers its id. Messages are given as messages."""
    values = {key: value.SerializeToString() if hasattr(value, "DESCRIPTOR") else value for key, value in row.items()}
    columns = ", ".join(f'"{column}"' for column in values)
    places = ", ".join(f"%({column})s" for column in values)
    cursor = await database.execute(f"INSERT INTO {table} ({columns}) VALUES ({places}) RETURNING id", values)
    (number,) = await cursor.fetchone() or (0,)
    return int(number)


async def execution(database: psycopg.AsyncConnection[Any], name: str, **row: Any) -> int:
    phase = row.pop("phase", "RUNNING")
    closure = ExecutionClosure(phase=phase)
    defaults = {"phase": phase, "spec": ExecutionSpec(), "closure": closure, "workflow_name": "wf"}
    return await insert(database, "executions", **PLACE, execution_name=name, **{**defaults, **row})


async def node(database: psycopg.AsyncConnection[Any], execution_name: str, name: str, **row: Any) -> int:
    defaults = {
        "phase": "SUCCEEDED",
        "closure": NodeExecutionClosure(phase=NodeExecution.SUCCEEDED),
        "node_execution_metadata": NodeExecutionMetaData(spec_node_id=name),
        "internal_data": b"\x08\x01",
    }
    return await insert(
        database, "node_executions", **PLACE, execution_name=execution_name, node_id=name, **{**defaults, **row}
    )


async def task(database: psycopg.AsyncConnection[Any], execution_name: str, node_name: str, **row: Any) -> int:
    named = {"project": PROJECT, "domain": DOMAIN, "name": "t", "version": "v1"}
    defaults = {"phase": "RUNNING", "closure": TaskExecutionClosure()}
    return await insert(
        database,
        "task_executions",
        **PLACE,
        execution_name=execution_name,
        node_id=node_name,
        **{**named, **defaults, **row},
    )


def stored(objects: Path, name: str, content: bytes) -> str:
    (objects / name).parent.mkdir(parents=True, exist_ok=True)
    (objects / name).write_bytes(content)
    return f"file://{objects}/{name}"


async def listed(admin: AdminServiceStub, filters: str = "", **fields: Any) -> list[str]:
    place = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    request = ResourceListRequest(**{"id": place, "limit": 100, "filters": filters, **fields})
    return [found.id.name for found in (await admin.ListExecutions(request)).executions]


GET = WorkflowExecutionGetRequest


@pytest.mark.parametrize(
    ("identifier_", "message"),
    [(None, "missing id"), ({"domain": "d", "name": "n"}, "missing project"), ({"project": "p"}, "missing domain")],
)
async def test_incomplete_ids_are_invalid(admin: AdminServiceStub, identifier_: Any, message: str) -> None:
    for method, request in (
        ("GetExecution", GET(id=identifier_)),
        ("GetExecutionData", WorkflowExecutionGetDataRequest(id=identifier_)),
        ("UpdateExecution", ExecutionUpdateRequest(id=identifier_)),
        ("TerminateExecution", ExecutionTerminateRequest(id=identifier_)),
    ):
        await refused(getattr(admin, method)(request), grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_what_is_missing_is_not_found(admin: AdminServiceStub) -> None:
    code = grpc.StatusCode.NOT_FOUND
    missing = execution_id("missing")
    await refused(admin.GetExecution(GET(id=missing)), code, "missing entity of type execution with identifier")
    await refused(admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=missing)), code)
    await refused(admin.UpdateExecution(ExecutionUpdateRequest(id=missing)), code)
    await refused(admin.TerminateExecution(ExecutionTerminateRequest(id=missing)), code)
    of_node = node_id("missing", "n0")
    await refused(admin.GetNodeExecution(NodeExecutionGetRequest(id=of_node)), code, "of type node execution with")
    await refused(admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=of_node)), code)
    of_task = task_id("missing", "n0")
    await refused(admin.GetTaskExecution(TaskExecutionGetRequest(id=of_task)), code, "of type task execution with")
    await refused(admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=of_task)), code)


async def test_errors_are_whole_alone_and_cut_in_lists(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    error = ExecutionError(code="USER:X", message=LONG, kind=ExecutionError.USER)
    closure = ExecutionClosure(phase=WorkflowExecution.FAILED, error=error)
    await execution(database, "failed", phase="FAILED", closure=closure, error_kind="USER", error_code="USER:X")
    await node(database, "failed", "n0", closure=NodeExecutionClosure(error=error), error_kind="USER")
    await task(database, "failed", "n0", closure=TaskExecutionClosure(error=error))
    whole = await admin.GetExecution(GET(id=execution_id("failed")))
    assert whole.closure == closure
    place = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="failed")
    (in_list,) = (await admin.ListExecutions(ResourceListRequest(id=place, limit=1))).executions
    assert in_list.closure.error.message == "é" * (LISTED_ERROR_BYTES // 2)
    assert in_list.closure.error.code == "USER:X"
    of_node = await admin.GetNodeExecution(NodeExecutionGetRequest(id=node_id("failed", "n0")))
    assert of_node.closure.error.message == LONG
    nodes = await admin.ListNodeExecutions(
        NodeExecutionListRequest(workflow_execution_id=execution_id("failed"), limit=1)
    )
    assert nodes.node_executions[0].closure.error.message == "é" * (LISTED_ERROR_BYTES // 2)
    tasks = await admin.ListTaskExecutions(TaskExecutionListRequest(node_execution_id=node_id("failed", "n0"), limit=1))
    assert tasks.task_executions[0].closure.error.message == LONG


async def test_lists_leave_inputs_out(admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]) -> None:
    await execution(database, "oldinputs", spec_inputs=literals(a=1))
    assert (await admin.GetExecution(GET(id=execution_id("oldinputs")))).spec.inputs == literals(a=1)
    place = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="oldinputs")
    (in_list,) = (await admin.ListExecutions(ResourceListRequest(id=place, limit=1))).executions
    assert not in_list.spec.HasField("inputs")


async def test_an_abort_that_only_the_engine_reported_shows_a_cause(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    closure = ExecutionClosure(phase=WorkflowExecution.ABORTED, error=ExecutionError(message="x"))
    await execution(database, "aborted", phase="ABORTED", closure=closure, abort_cause="because")
    found: Execution = await admin.GetExecution(GET(id=execution_id("aborted")))
    assert found.closure.abort_metadata.cause == "because"
    assert not found.closure.HasField("error")


@pytest.fixture(scope="module")
async def several(database: psycopg.AsyncConnection[Any]) -> None:
    """Executions of the user `lister`, made in the order of their names."""
    rows: Sequence[dict[str, Any]] = (
        {"phase": "SUCCEEDED", "launch_plan_name": "lpa", "workflow_name": "wfa", "duration": 90_000_000_000},
        {"phase": "FAILED", "launch_plan_name": "lpb", "workflow_name": "wfb", "mode": 1},
        {"phase": "RUNNING", "task_name": "ta", "launch_entity": "task"},
        {"phase": "SUCCEEDED", "launch_plan_name": "lpa", "state": 1},
    )
    for number, row in enumerate(rows, start=1):
        await execution(database, f"l{number}", user="lister", **row)
    tags = (("l1", "k", "v"), ("l1", "x", ""), ("l2", "k", "w"), ("l3", "x", ""))
    for name, key, value in tags:
        await insert(database, "execution_tags", **PLACE, execution_name=name, key=key, value=value)
    other = {"execution_project": "other", "execution_domain": DOMAIN}
    await insert(database, "execution_tags", **other, execution_name="l3", key="k", value="v")


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("", ["l1", "l2", "l3"]),
        ("eq(state,1)", ["l4"]),
        ("eq(state,EXECUTION_ARCHIVED)", ["l4"]),
        ("value_in(state,0;1)", ["l1", "l2", "l3", "l4"]),
        ("value_in(phase,FAILED;RUNNING)", ["l2", "l3"]),
        ("eq(workflow.name,wfa)", ["l1"]),
        ("eq(launch_plan.name,lpa)", ["l1"]),
        ("ne(launch_plan.name,lpa)", ["l2"]),
        ("eq(task.name,ta)", ["l3"]),
        ("eq(launch_entity,task)", ["l3"]),
        ("eq(mode,SCHEDULED)", ["l2"]),
        ("gte(duration,1m)", ["l1"]),
        ("lt(duration,90)", ["l2", "l3"]),
        ("gte(created_at,2020-01-01T00:00:00Z)", ["l1", "l2", "l3"]),
        ("contains(execution_name,3)", ["l3"]),
        ("eq(execution_tag.key,k)+eq(execution_tag.value,v)", ["l1"]),
        ("eq(execution_tag.key,x)+eq(execution_tag.value,v)", []),
        ("eq(admin_tag.name,k)", ["l1", "l2"]),
        ("eq(admin_tag.name,k)+eq(admin_tag.name,x)", ["l1"]),
        ("value_in(admin_tag.name,k;x)", ["l1", "l2", "l3"]),
    ],
)
async def test_filters_choose(admin: AdminServiceStub, filters: str, names: list[str]) -> None:
    filters = "eq(user,lister)" + ("+" + filters if filters else "")
    assert await listed(admin, filters) == names


@pytest.mark.usefixtures("several")
async def test_pages_follow_one_another_until_an_empty_token(admin: AdminServiceStub) -> None:
    place = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    seen, token = [], ""
    for _ in range(5):
        page = await admin.ListExecutions(
            ResourceListRequest(
                id=place, limit=2, token=token, filters="eq(user,lister)", sort_by=Sort(key="created_at")
            )
        )
        seen += [found.id.name for found in page.executions]
        token = page.token
        if not token:
            break
    assert seen == ["l3", "l2", "l1"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": None}, "missing id"),
        ({"id": NamedEntityIdentifier(domain=DOMAIN)}, "missing project"),
        ({"id": NamedEntityIdentifier(project=PROJECT)}, "missing domain"),
        ({"limit": 0}, "invalid value for limit"),
        ({"filters": "phase=RUNNING"}, "invalid value for filters"),
        ({"filters": "eq(name,x)"}, "'e.name' is invalid filter"),
        ({"filters": "eq(signal.id,1)"}, "'s' entity is not allowed in filters"),
        ({"filters": "gte(created_at,yesterday)"}, "must conform to RFC3339"),
        ({"sort_by": Sort()}, "invalid sort key ''"),
        ({"token": "-1"}, "invalid pagination token -1 for ListExecutions"),
    ],
)
async def test_wrong_lists_are_refused(admin: AdminServiceStub, fields: dict[str, Any], message: str) -> None:
    await refused(listed(admin, **fields), grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_nodes_are_listed_level_by_level(admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]) -> None:
    await execution(database, "tree")
    parent = await node(database, "tree", "n0", internal_data=b"", dynamic_workflow_remote_closure_reference="x")
    await node(database, "tree", "n0-0-n1", parent_id=parent, input_uri="in")
    await node(database, "tree", "n9")
    tree = execution_id("tree")
    top = await admin.ListNodeExecutions(NodeExecutionListRequest(workflow_execution_id=tree, limit=10))
    assert [found.id for found in top.node_executions] == [node_id("tree", "n0"), node_id("tree", "n9")]
    flags = [(found.metadata.is_parent_node, found.metadata.is_dynamic) for found in top.node_executions]
    assert flags == [(True, True), (False, False)]
    children = await admin.ListNodeExecutions(
        NodeExecutionListRequest(workflow_execution_id=tree, unique_parent_id="n0", limit=10)
    )
    (child,) = children.node_executions
    assert (child.id, child.input_uri) == (node_id("tree", "n0-0-n1"), "in")
    assert child.metadata.spec_node_id == "n0-0-n1"
    assert child == await admin.GetNodeExecution(NodeExecutionGetRequest(id=child.id))
    alone = await admin.GetNodeExecution(NodeExecutionGetRequest(id=node_id("tree", "n0")))
    assert alone == top.node_executions[0]
    found = await admin.ListNodeExecutions(
        NodeExecutionListRequest(workflow_execution_id=tree, limit=10, filters="eq(execution.phase,FAILED)")
    )
    assert not found.node_executions


async def test_node_lists_say_what_is_wrong(admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]) -> None:
    await execution(database, "leaf")
    code = grpc.StatusCode.INVALID_ARGUMENT
    await refused(admin.ListNodeExecutions(NodeExecutionListRequest(limit=1)), code, "missing execution_id")
    nameless = NodeExecutionListRequest(workflow_execution_id={"project": "p"}, limit=1)
    await refused(admin.ListNodeExecutions(nameless), code, "missing execution_id")
    leaf = NodeExecutionListRequest(workflow_execution_id=execution_id("leaf"))
    await refused(admin.ListNodeExecutions(leaf), code, "invalid value for limit")
    orphan = NodeExecutionListRequest(workflow_execution_id=execution_id("leaf"), unique_parent_id="n7", limit=1)
    await refused(admin.ListNodeExecutions(orphan), grpc.StatusCode.NOT_FOUND)
    unknown = NodeExecutionListRequest(workflow_execution_id=execution_id("unknown"), limit=1)
    assert not (await admin.ListNodeExecutions(unknown)).node_executions


async def test_attempts_are_listed_and_read(admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]) -> None:
    await execution(database, "attempts")
    await node(database, "attempts", "n0")
    for attempt in (0, 1):
        await task(database, "attempts", "n0", retry_attempt=attempt, input_uri="in")
    request = TaskExecutionListRequest(node_execution_id=node_id("attempts", "n0"), limit=10)
    both = (await admin.ListTaskExecutions(request)).task_executions
    assert [found.id for found in both] == [task_id("attempts", "n0", attempt=attempt) for attempt in (0, 1)]
    request.filters = "eq(retry_attempt,1)+eq(task.name,t)+eq(node_execution.phase,SUCCEEDED)+eq(name,attempts)"
    (second,) = (await admin.ListTaskExecutions(request)).task_executions
    untyped = task_id("attempts", "n0", attempt=1)
    untyped.task_id.resource_type = ResourceType.UNSPECIFIED
    assert second == await admin.GetTaskExecution(TaskExecutionGetRequest(id=untyped))
    wrong = task_id("attempts", "n0")
    wrong.task_id.resource_type = ResourceType.WORKFLOW
    await refused(
        admin.GetTaskExecution(TaskExecutionGetRequest(id=wrong)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "unexpected resource type",
    )


async def test_data_is_answered_inline(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    inputs = stored(objects, "data/inputs", literals(a=1).SerializeToString())
    outputs = stored(objects, "data/outputs", literals(o=2).SerializeToString())
    closure = ExecutionClosure(outputs={"uri": outputs})
    await execution(database, "data", inputs_uri=inputs, closure=closure)
    found = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("data")))
    assert (found.full_inputs, found.full_outputs) == (literals(a=1), literals(o=2))
    assert found.HasField("inputs")
    assert found.HasField("outputs")


async def test_without_data_maps_are_present_and_empty(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "nodata")
    await node(database, "nodata", "n0")
    await task(database, "nodata", "n0")
    for found in (
        await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("nodata"))),
        await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("nodata", "n0"))),
        await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id("nodata", "n0"))),
    ):
        assert all(found.HasField(field) for field in ("inputs", "outputs", "full_inputs", "full_outputs"))


async def test_unreadable_data_is_an_error_and_not_empty(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    broken = stored(objects, "broken", b"\xff\xff")
    for name, uri in (("lost", f"file://{objects}/nowhere"), ("broken", broken), ("foreign", "s3://other/outputs")):
        await execution(database, name, closure=ExecutionClosure(outputs={"uri": uri}))
        request = WorkflowExecutionGetDataRequest(id=execution_id(name))
        await refused(admin.GetExecutionData(request), grpc.StatusCode.INTERNAL, "cannot be read")


async def test_signed_urls_stand_beside_small_data_and_in_place_of_large(parts: Parts, objects: Path) -> None:
    small, large = literals(a=1), literals(a=1, b="x" * 100)
    async with (
        service(
            "executions",
            parts,
            "signed_executions",
            objects_url=f"file://{objects}",
            signing_key="key",
            signed_data_urls=True,
            inline_data_max_bytes=50,
        ) as running,
        await psycopg.AsyncConnection.connect(running.settings.database_url, autocommit=True) as database,
    ):
        inputs = stored(objects, "signed/inputs", small.SerializeToString())
        outputs = stored(objects, "signed/outputs", large.SerializeToString())
        await execution(database, "signed", inputs_uri=inputs, closure=ExecutionClosure(outputs={"uri": outputs}))
        await execution(database, "unsigned", closure=ExecutionClosure(output_data=large))
        admin = AdminServiceStub(running.channel)
        found = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("signed")))
        of_values = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("unsigned")))
    assert found.inputs.bytes == small.ByteSize()
    assert found.inputs.url.startswith("http://localhost:30080/objects/signed/inputs?")
    assert found.full_inputs == small
    assert found.outputs.bytes == large.ByteSize()
    assert found.outputs.url
    assert not found.HasField("full_outputs")
    assert not of_values.HasField("full_outputs")
    assert of_values.HasField("full_inputs")


async def test_a_nodes_data_comes_with_its_dynamic_workflow_and_urls(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    compiled = CompiledWorkflowClosure()
    compiled.primary.template.id.CopyFrom(identifier(ResourceType.WORKFLOW, "dyn"))
    await execution(database, "dynamic")
    await node(
        database,
        "dynamic",
        "n0",
        closure=NodeExecutionClosure(output_data=literals(o=1), deck_uri="deck", dynamic_job_spec_uri="spec"),
        dynamic_workflow_remote_closure_reference=stored(objects, "closure", compiled.SerializeToString()),
    )
    await task(database, "dynamic", "n0", closure=TaskExecutionClosure(output_data=literals(o=2)), retry_attempt=3)
    found = await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("dynamic", "n0")))
    assert found.full_outputs == literals(o=1)
    assert found.dynamic_workflow.id == compiled.primary.template.id
    assert found.dynamic_workflow.compiled_workflow == compiled
    assert found.dynamic_workflow.dynamic_job_spec_uri == "spec"
    base = f"flyte://v1/{PROJECT}/{DOMAIN}/dynamic/n0"
    urls = found.flyte_urls
    assert [urls.inputs, urls.outputs, urls.deck] == [f"{base}/i", f"{base}/o", f"{base}/d"]
    alone = await admin.GetDynamicNodeWorkflow(GetDynamicNodeWorkflowRequest(id=node_id("dynamic", "n0")))
    assert alone.compiled_workflow == compiled
    of_task = await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id("dynamic", "n0", attempt=3)))
    assert of_task.full_outputs == literals(o=2)
    assert (of_task.flyte_urls.outputs, of_task.flyte_urls.deck) == (f"{base}/3/o", "")


async def test_a_plain_node_has_no_dynamic_workflow(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "plain")
    await node(database, "plain", "n0")
    request = GetDynamicNodeWorkflowRequest(id=node_id("plain", "n0"))
    code = grpc.StatusCode.NOT_FOUND
    await refused(admin.GetDynamicNodeWorkflow(request), code, "node does not contain dynamic workflow")


async def test_nodes_that_a_task_made_are_listed_below_it(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "legacy")
    await node(database, "legacy", "n0")
    number = await task(database, "legacy", "n0")
    await node(database, "legacy", "made", parent_task_execution_id=number)
    request = NodeExecutionForTaskListRequest(task_execution_id=task_id("legacy", "n0"), limit=10)
    found = await admin.ListNodeExecutionsForTask(request)
    assert [one.id.node_id for one in found.node_executions] == ["made"]
    top = NodeExecutionListRequest(workflow_execution_id=execution_id("legacy"), limit=10)
    assert [one.id.node_id for one in (await admin.ListNodeExecutions(top)).node_executions] == ["n0"]
    parent = await admin.GetTaskExecution(TaskExecutionGetRequest(id=task_id("legacy", "n0")))
    assert parent.is_parent
    unknown = NodeExecutionForTaskListRequest(task_execution_id=task_id("legacy", "n1"), limit=10)
    await refused(admin.ListNodeExecutionsForTask(unknown), grpc.StatusCode.NOT_FOUND)


async def test_archiving_hides_from_lists_whatever_the_phase(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "hidden", user="archiver")
    assert await listed(admin, "eq(user,archiver)") == ["hidden"]
    request = ExecutionUpdateRequest(id=execution_id("hidden"), state=EXECUTION_ARCHIVED)
    for _ in range(2):
        await admin.UpdateExecution(request)
    assert await listed(admin, "eq(user,archiver)") == []
    found = await admin.GetExecution(GET(id=execution_id("hidden")))
    assert found.closure.state_change_details.state == EXECUTION_ARCHIVED
    assert found.closure.phase == WorkflowExecution.RUNNING


async def test_terminating_makes_aborting_and_may_be_repeated(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "ending")
    for cause in ("first", "second"):
        await admin.TerminateExecution(ExecutionTerminateRequest(id=execution_id("ending"), cause=cause))
    found = await admin.GetExecution(GET(id=execution_id("ending")))
    assert found.closure.phase == WorkflowExecution.ABORTING
    assert found.closure.abort_metadata.cause == "second"


@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"])
async def test_what_has_ended_cannot_be_terminated(
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


async def test_an_upload_goes_to_a_place_of_its_digest(proxy: DataProxyServiceStub, objects: Path) -> None:
    request = CreateUploadLocationRequest(project="p", domain="d", filename="f", content_md5=MD5)
    first, second = [await proxy.CreateUploadLocation(request) for _ in range(2)]
    assert first.native_url == second.native_url
    assert first.native_url.startswith(f"file://{objects}/uploads/p/d/")
    assert first.native_url.endswith("=/f")
    assert first.signed_url.startswith("http://localhost:30080/objects/uploads/p/d/")
    assert "Content-MD5" in first.headers
    request.filename = ""
    unnamed = await proxy.CreateUploadLocation(request)
    assert len(unnamed.native_url.rpartition("/")[2]) == 20


async def test_a_named_file_is_not_replaced_by_other_content(proxy: DataProxyServiceStub, objects: Path) -> None:
    stored(objects, "uploads/p/d/folder/f", b"content")
    stored(objects, ".content-md5/uploads/p/d/folder/f", MD5)
    request = CreateUploadLocationRequest(project="p", domain="d", filename="f", filename_root="folder")
    code = grpc.StatusCode.ALREADY_EXISTS
    await refused(proxy.CreateUploadLocation(request), code, "file already exists at location")
    request.content_md5 = bytes(16)
    await refused(proxy.CreateUploadLocation(request), code)
    request.content_md5 = MD5
    assert (await proxy.CreateUploadLocation(request)).native_url == f"file://{objects}/uploads/p/d/folder/f"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"project": ""}, "project and domain are required parameters"),
        ({"content_md5": b""}, "content_md5 or filename_root is a required parameter"),
        ({"content_md5": b"short"}, "content_md5 has 5 bytes"),
        ({"expires_in": Duration(seconds=3601)}, "cannot exceed max allowed expiration"),
        ({"expires_in": Duration(seconds=-1)}, "is invalid"),
        ({"filename_root": "../../metadata"}, "invalid uri"),
    ],
)
async def test_wrong_uploads_are_refused(proxy: DataProxyServiceStub, fields: dict[str, Any], message: str) -> None:
    request = CreateUploadLocationRequest(**{"project": "p", "domain": "d", "content_md5": MD5, **fields})
    await refused(proxy.CreateUploadLocation(request), grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_only_objects_of_the_own_store_are_signed_for_download(
    proxy: DataProxyServiceStub, objects: Path
) -> None:
    own = CreateDownloadLocationRequest(native_url=f"file://{objects}/x")
    assert (await proxy.CreateDownloadLocation(own)).signed_url.startswith("http://localhost:30080/objects/x?")
    for url in ("s3://other/secret", "file:///etc/passwd", f"file://{objects}/../x", ""):
        foreign = CreateDownloadLocationRequest(native_url=url)
        await refused(
            proxy.CreateDownloadLocation(foreign),
            grpc.StatusCode.INVALID_ARGUMENT,
            "error while validating request",
        )


async def test_a_deck_is_linked_in_old_and_new_fields(
    proxy: DataProxyServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    await execution(database, "decks")
    deck = stored(objects, "deck.html", b"<html>")
    await node(database, "decks", "n0", closure=NodeExecutionClosure(deck_uri=deck))
    await node(database, "decks", "n1")
    await node(database, "decks", "n2", closure=NodeExecutionClosure(deck_uri=f"file://{objects}/gone.html"))

    def request(name: str) -> CreateDownloadLinkRequest:
        return CreateDownloadLinkRequest(artifact_type=ARTIFACT_TYPE_DECK, node_execution_id=node_id("decks", name))

    found = await proxy.CreateDownloadLink(request("n0"))
    assert list(found.signed_url) == list(found.pre_signed_urls.signed_url)
    assert found.expires_at == found.pre_signed_urls.expires_at
    await refused(proxy.CreateDownloadLink(request("n1")), grpc.StatusCode.NOT_FOUND, "no deckUrl found for request")
    await refused(proxy.CreateDownloadLink(request("n2")), grpc.StatusCode.NOT_FOUND, "object not found")
    await refused(proxy.CreateDownloadLink(request("n3")), grpc.StatusCode.INVALID_ARGUMENT)
    undefined = CreateDownloadLinkRequest(node_execution_id=node_id("decks", "n0"))
    await refused(proxy.CreateDownloadLink(undefined), grpc.StatusCode.INVALID_ARGUMENT)
