"""One execution read over REST in each of the three encodings, and missing entities as an error in each."""

from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin import common_pb2, execution_pb2, node_execution_pb2, task_execution_pb2
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.service import dataproxy_pb2
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub
from google.protobuf import json_format
from google.rpc.status_pb2 import Status

from tests.integration.stack import launched
from tests.support.entities import DOMAIN, PROJECT, identifier
from tests.support.play import play
from tests.support.sandbox import Sandbox

CAMEL: dict[str, str] = {}
SNAKE = {"Accept": "application/json"}
BINARY = {"Accept": "application/octet-stream"}


@dataclass(frozen=True)
class Read:
    rpc: str
    path: str
    request: Any


def reads(name: str) -> list[Read]:
    """Return every read of one execution, by gRPC and by path."""
    execution = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    node = NodeExecutionIdentifier(execution_id=execution, node_id="n0")
    task_id = identifier(ResourceType.TASK, "stack.double")
    task = TaskExecutionIdentifier(task_id=task_id, node_execution_id=node)
    scope = f"{PROJECT}/{DOMAIN}/{name}"
    attempt = f"{scope}/n0/{PROJECT}/{DOMAIN}/stack.double/v1/0"
    by_name = common_pb2.ResourceListRequest(
        id=common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN),
        limit=5,
        filters=f"eq(execution_name,{name})",
        sort_by=common_pb2.Sort(key="created_at"),
    )
    nodes = node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=execution, limit=10)
    tasks = task_execution_pb2.TaskExecutionListRequest(node_execution_id=node, limit=10)
    sorted_by_name = f"filters=eq(execution_name,{name})&sort_by.key=created_at&sort_by.direction=DESCENDING"
    return [
        Read("GetExecution", f"executions/{scope}", execution_pb2.WorkflowExecutionGetRequest(id=execution)),
        Read(
            "GetExecutionData", f"data/executions/{scope}", execution_pb2.WorkflowExecutionGetDataRequest(id=execution)
        ),
        Read("ListExecutions", f"executions/{PROJECT}/{DOMAIN}?limit=5&{sorted_by_name}", by_name),
        Read("ListNodeExecutions", f"node_executions/{scope}?limit=10", nodes),
        Read("GetNodeExecution", f"node_executions/{scope}/n0", node_execution_pb2.NodeExecutionGetRequest(id=node)),
        Read(
            "GetNodeExecutionData",
            f"data/node_executions/{scope}/n0",
            node_execution_pb2.NodeExecutionGetDataRequest(id=node),
        ),
        Read("ListTaskExecutions", f"task_executions/{scope}/n0?limit=10", tasks),
        Read("GetTaskExecution", f"task_executions/{attempt}", task_execution_pb2.TaskExecutionGetRequest(id=task)),
        Read(
            "GetTaskExecutionData",
            f"data/task_executions/{attempt}",
            task_execution_pb2.TaskExecutionGetDataRequest(id=task),
        ),
        Read(
            "GetExecutionMetrics",
            f"metrics/executions/{scope}?depth=10",
            execution_pb2.WorkflowExecutionGetMetricsRequest(id=execution, depth=10),
        ),
        Read(
            "GetData",
            f"data?flyte_url=flyte://v1/{scope}/n0/o",
            dataproxy_pb2.GetDataRequest(flyte_url=f"flyte://v1/{scope}/n0/o"),
        ),
    ]


@pytest.fixture(scope="module")
async def name(admin: AdminServiceStub, sandbox: Sandbox, plums: Identifier) -> str:
    """Return the name of an execution that has succeeded."""
    execution = await launched.launch(admin, plums)
    await play(admin, sandbox.objects_url, execution.name, launched.TASKS)
    return str(execution.name)


@pytest.mark.parametrize("index", range(11), ids=lambda index: reads("x")[index].rpc)
async def test_rest_returns_the_same_as_grpc_in_each_encoding(
    index: int, name: str, admin: AdminServiceStub, data_proxy: DataProxyServiceStub, sandbox: Sandbox
) -> None:
    read = reads(name)[index]
    call = getattr(admin, read.rpc, None) or getattr(data_proxy, read.rpc)
    message = await call(read.request)
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        camel = await client.get(read.path, headers=CAMEL)
        snake = await client.get(read.path, headers=SNAKE)
        binary = await client.get(read.path, headers=BINARY)
    assert [response.status_code for response in (camel, snake, binary)] == [200, 200, 200], camel.text
    assert json_format.Parse(camel.text, type(message)()) == message
    assert json_format.Parse(snake.text, type(message)()) == message
    assert type(message).FromString(binary.content) == message
    assert binary.headers["content-type"] == "application/octet-stream"
    assert message.ByteSize() > 0


async def test_encodings_spell_names_differently(name: str, sandbox: Sandbox) -> None:
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        path = f"executions/{PROJECT}/{DOMAIN}/{name}"
        camel = (await client.get(path, headers=CAMEL)).json()["closure"]
        snake = (await client.get(path, headers=SNAKE)).json()["closure"]
    assert (camel["phase"], snake["phase"]) == ("SUCCEEDED", "SUCCEEDED")
    assert "startedAt" in camel
    assert "started_at" in snake


async def test_spans_of_an_execution_have_its_nodes_and_tasks(name: str, admin: AdminServiceStub) -> None:
    wanted = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    request = execution_pb2.WorkflowExecutionGetMetricsRequest(id=wanted, depth=-1)
    span = (await admin.GetExecutionMetrics(request)).span
    assert span.workflow_id == wanted
    assert [child.operation_id or child.node_id.node_id for child in span.spans] == [
        "WORKFLOW_SETUP",
        "n0",
        "n1",
        "WORKFLOW_TEARDOWN",
    ]
    for node in span.spans[1:3]:
        assert [child.WhichOneof("id") for child in node.spans] == [
            *["operation_id"] * 2,
            "task_id",
            "operation_id",
        ]
        assert [child.operation_id for child in node.spans[2].spans][:2] == ["TASK_SETUP", "TASK_RUNTIME"]
    request.depth = 0
    assert not (await admin.GetExecutionMetrics(request)).span.spans


async def test_data_of_an_execution_has_resolved_inputs_and_outputs(name: str, admin: AdminServiceStub) -> None:
    wanted = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    data = await admin.GetExecutionData(execution_pb2.WorkflowExecutionGetDataRequest(id=wanted))
    assert json_format.MessageToDict(data.full_inputs)["literals"] == {
        "count": {"scalar": {"primitive": {"integer": "3"}}},
        "unit": {"scalar": {"primitive": {"stringValue": "plums"}}},
    }
    assert json_format.MessageToDict(data.full_outputs)["literals"] == {
        "twice": {"scalar": {"primitive": {"integer": "6"}}},
        "text": {"scalar": {"primitive": {"stringValue": "6 plums"}}},
    }


MISSING = [read for read in reads("nowhere") if not read.rpc.startswith("List")]


@pytest.mark.parametrize("read", MISSING, ids=lambda read: read.rpc)
async def test_missing_entity_is_an_error_in_each_encoding(
    read: Read, admin: AdminServiceStub, data_proxy: DataProxyServiceStub, sandbox: Sandbox
) -> None:
    call = getattr(admin, read.rpc, None) or getattr(data_proxy, read.rpc)
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await call(read.request)
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        camel = await client.get(read.path, headers=CAMEL)
        snake = await client.get(read.path, headers=SNAKE)
        binary = await client.get(read.path, headers=BINARY)
    assert [response.status_code for response in (camel, snake, binary)] == [404, 404, 404]
    expected: dict[str, Any] = {"code": 5, "message": missing.value.details(), "details": []}
    assert camel.json() == expected
    assert snake.json() == expected
    assert Status.FromString(binary.content) == Status(code=5, message=missing.value.details() or "")
