"""Reads and lists of executions, nodes and attempts, over gRPC, on rows in a real database."""

from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionClosure,
    ExecutionTerminateRequest,
    ExecutionUpdateRequest,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.node_execution_pb2 import (
    NodeExecutionClosure,
    NodeExecutionForTaskListRequest,
    NodeExecutionGetDataRequest,
    NodeExecutionGetRequest,
    NodeExecutionListRequest,
)
from flyteidl.admin.task_execution_pb2 import (
    TaskExecutionClosure,
    TaskExecutionGetDataRequest,
    TaskExecutionGetRequest,
    TaskExecutionListRequest,
)
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.executions.responses.entities import LISTED_ERROR_BYTES
from tests.support.entities import DOMAIN, PROJECT, literals
from tests.support.execution_rows import LONG, execution, node, task
from tests.support.executions import execution_id, node_id, task_id
from tests.support.refusals import refused

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


async def test_missing_entities_are_not_found(admin: AdminServiceStub) -> None:
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


async def test_error_is_whole_in_get_and_cut_in_lists(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    error = ExecutionError(code="USER:X", message=LONG, kind=ExecutionError.USER)
    closure = ExecutionClosure(phase=WorkflowExecution.FAILED, error=error)
    await execution(database, "failed", phase="FAILED", closure=closure, error_kind="USER", error_code="USER:X")
    await node(database, "failed", "n0", closure=NodeExecutionClosure(error=error), error_kind="USER")
    await task(database, "failed", "n0", closure=TaskExecutionClosure(error=error))
    whole = await admin.GetExecution(GET(id=execution_id("failed")))
    assert whole.closure == closure
    scope = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="failed")
    (in_list,) = (await admin.ListExecutions(ResourceListRequest(id=scope, limit=1))).executions
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


async def test_lists_omit_inputs(admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]) -> None:
    await execution(database, "oldinputs", spec_inputs=literals(a=1))
    assert (await admin.GetExecution(GET(id=execution_id("oldinputs")))).spec.inputs == literals(a=1)
    scope = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="oldinputs")
    (in_list,) = (await admin.ListExecutions(ResourceListRequest(id=scope, limit=1))).executions
    assert not in_list.spec.HasField("inputs")


async def test_abort_that_only_the_engine_reported_has_a_cause(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    closure = ExecutionClosure(phase=WorkflowExecution.ABORTED, error=ExecutionError(message="x"))
    await execution(database, "aborted", phase="ABORTED", closure=closure, abort_cause="because")
    found: Execution = await admin.GetExecution(GET(id=execution_id("aborted")))
    assert found.closure.abort_metadata.cause == "because"
    assert not found.closure.HasField("error")


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
    got = await admin.GetNodeExecution(NodeExecutionGetRequest(id=node_id("tree", "n0")))
    assert got == top.node_executions[0]
    found = await admin.ListNodeExecutions(
        NodeExecutionListRequest(workflow_execution_id=tree, limit=10, filters="eq(execution.phase,FAILED)")
    )
    assert not found.node_executions


async def test_invalid_node_list_requests_are_refused(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "leaf")
    code = grpc.StatusCode.INVALID_ARGUMENT
    await refused(admin.ListNodeExecutions(NodeExecutionListRequest(limit=1)), code, "missing execution_id")
    nameless = NodeExecutionListRequest(workflow_execution_id={"project": "p"}, limit=1)
    await refused(admin.ListNodeExecutions(nameless), code, "missing execution_id")
    orphan = NodeExecutionListRequest(workflow_execution_id=execution_id("leaf"), unique_parent_id="n7", limit=1)
    await refused(admin.ListNodeExecutions(orphan), grpc.StatusCode.NOT_FOUND)
    unknown = NodeExecutionListRequest(workflow_execution_id=execution_id("unknown"), limit=1)
    assert not (await admin.ListNodeExecutions(unknown)).node_executions


async def test_attempts_are_listed_and_returned(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
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


async def test_nodes_that_a_task_made_are_listed_below_it(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "legacy")
    await node(database, "legacy", "n0")
    number = await task(database, "legacy", "n0")
    await node(database, "legacy", "made", parent_task_execution_id=number)
    request = NodeExecutionForTaskListRequest(task_execution_id=task_id("legacy", "n0"), limit=10)
    found = await admin.ListNodeExecutionsForTask(request)
    assert [item.id.node_id for item in found.node_executions] == ["made"]
    top = NodeExecutionListRequest(workflow_execution_id=execution_id("legacy"), limit=10)
    assert [item.id.node_id for item in (await admin.ListNodeExecutions(top)).node_executions] == ["n0"]
    parent = await admin.GetTaskExecution(TaskExecutionGetRequest(id=task_id("legacy", "n0")))
    assert parent.is_parent
    unknown = NodeExecutionForTaskListRequest(task_execution_id=task_id("legacy", "n1"), limit=10)
    await refused(admin.ListNodeExecutionsForTask(unknown), grpc.StatusCode.NOT_FOUND)
