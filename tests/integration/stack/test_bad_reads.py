"""Refused reads of executions, nodes, attempts and data through the gateway: by gRPC, and by REST where it has a form.

Each in the order of the page's checks: executions.md#node-executions, executions.md#task-executions,
executions.md#getexecutionmetrics, executions.md#dataproxyservice.
"""

from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetMetricsRequest
from flyteidl.admin.node_execution_pb2 import (
    GetDynamicNodeWorkflowRequest,
    NodeExecutionForTaskListRequest,
    NodeExecutionListRequest,
)
from flyteidl.admin.task_execution_pb2 import TaskExecutionGetRequest, TaskExecutionListRequest
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2 import (
    ARTIFACT_TYPE_DECK,
    CreateDownloadLinkRequest,
    CreateDownloadLocationRequest,
    CreateUploadLocationRequest,
    GetDataRequest,
)
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from tests.integration.stack import launched
from tests.support.entities import DOMAIN, PROJECT, identifier
from tests.support.play import play
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
HTTP = {INVALID: 400, MISSING: 404}
EXECUTION = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name="badreads")
NODE = NodeExecutionIdentifier(execution_id=EXECUTION, node_id="n9")
TASK = identifier(ResourceType.TASK, "stack.double")
EXECUTION_PATH = f"{PROJECT}/{DOMAIN}/badreads"
ATTEMPT = f"{EXECUTION_PATH}/n9/{PROJECT}/{DOMAIN}/stack.double/v1/0"
LONG = Duration(seconds=3601)


@dataclass(frozen=True)
class Case:
    rpc: str
    request: Message
    code: grpc.StatusCode
    message: str
    get: str = ""  # the REST path of a GET
    post: str = ""  # the REST path of a POST of the request

    def __str__(self) -> str:
        return f"{self.rpc}: {self.message[:50]}"


def task(**parts: Any) -> TaskExecutionIdentifier:
    return TaskExecutionIdentifier(**({"node_execution_id": NODE, "task_id": TASK} | parts))


def attempt(message: str, code: grpc.StatusCode = INVALID, **parts: Any) -> Case:
    return Case("GetTaskExecution", TaskExecutionGetRequest(id=task(**parts)), code, message)


def children(message: str, code: grpc.StatusCode = INVALID, get: str = "", limit: int = 1, **parts: Any) -> Case:
    request = NodeExecutionForTaskListRequest(task_execution_id=task(**parts), limit=limit)
    return Case("ListNodeExecutionsForTask", request, code, message, get)


def upload(message: str, **fields: Any) -> Case:
    request = CreateUploadLocationRequest(**fields)
    return Case("CreateUploadLocation", request, INVALID, message, post="dataproxy/artifact_urn")


def location(message: str, query: str, **fields: Any) -> Case:
    request = CreateDownloadLocationRequest(**fields)
    return Case("CreateDownloadLocation", request, INVALID, message, f"dataproxy/artifact_urn?{query}")


def link(message: str, code: grpc.StatusCode = INVALID, **fields: Any) -> Case:
    request = CreateDownloadLinkRequest(**fields)
    return Case("CreateDownloadLink", request, code, message, post="dataproxy/artifact_link")


def data(message: str, url: str, code: grpc.StatusCode = INVALID) -> Case:
    return Case("GetData", GetDataRequest(flyte_url=url), code, message, f"data?flyte_url={url}")


NO_TYPE = Identifier(project=PROJECT, domain=DOMAIN, name="stack.double", version="v1")
WORKFLOW = identifier(ResourceType.WORKFLOW, "stack.double")
HERE = {"project": PROJECT, "domain": DOMAIN}
DECK: dict[str, Any] = {"artifact_type": ARTIFACT_TYPE_DECK}
URL = f"flyte://v1/{EXECUTION_PATH}"
NO_NODE, NO_TASK, NO_EXECUTION = (
    f"missing entity of type {kind}" for kind in ("node execution", "task execution", "execution")
)

CASES = [
    Case(
        "ListNodeExecutions",
        NodeExecutionListRequest(workflow_execution_id=EXECUTION, unique_parent_id="n9", limit=1),
        MISSING,
        NO_NODE,
        f"node_executions/{EXECUTION_PATH}?limit=1&unique_parent_id=n9",
    ),
    children("missing node_execution_id", node_execution_id=None),
    children("missing execution_id", node_execution_id=NodeExecutionIdentifier(node_id="n9")),
    children("missing node_id", node_execution_id=NodeExecutionIdentifier(execution_id=EXECUTION)),
    children("missing task_id", task_id=None),
    children("unexpected resource type", task_id=WORKFLOW),
    children("missing version", task_id=Identifier(resource_type=ResourceType.TASK, **HERE, name="t")),
    children(NO_TASK, MISSING, limit=0, get=f"children/task_executions/{ATTEMPT}", task_id=NO_TYPE),
    Case(
        "GetDynamicNodeWorkflow",
        GetDynamicNodeWorkflowRequest(id=NODE),
        MISSING,
        NO_NODE,
        f"node_executions/{EXECUTION_PATH}/n9/dynamic_workflow",
    ),
    attempt("missing node_execution_id", node_execution_id=None),
    attempt("missing task_id", task_id=None),
    attempt("unexpected resource type", task_id=WORKFLOW),
    attempt(NO_TASK, MISSING, task_id=NO_TYPE),
    Case("ListTaskExecutions", TaskExecutionListRequest(limit=1), INVALID, "missing id"),
    Case(
        "ListTaskExecutions",
        TaskExecutionListRequest(node_execution_id=NodeExecutionIdentifier(node_id="n9"), limit=1),
        INVALID,
        "missing execution_id",
    ),
    Case(
        "ListTaskExecutions",
        TaskExecutionListRequest(node_execution_id=NODE, token="x"),
        INVALID,
        "invalid pagination token x for ListTaskExecutions",
        f"task_executions/{EXECUTION_PATH}/n9?token=x",
    ),
    Case(
        "GetExecutionMetrics",
        WorkflowExecutionGetMetricsRequest(id=EXECUTION),
        MISSING,
        NO_EXECUTION,
        f"metrics/executions/{EXECUTION_PATH}",
    ),
    upload("project and domain are required parameters", project=PROJECT, filename_root="r"),
    upload("content_md5 or filename_root is a required parameter", **HERE, filename="f"),
    upload("cannot exceed max allowed expiration", **HERE, filename_root="r", expires_in=LONG),
    location("error while validating request", "expires_in=3601s&native_url=file:///x", expires_in=LONG),
    link("", node_execution_id=NODE),
    link("unsupported source", **DECK),
    link("failed to find node execution", **DECK, node_execution_id=NODE),
    data("failed to validate resolve artifact request", ""),
    data("failed to validate resolve artifact request", "s3://bucket/o"),
    data("failed to parse artifact url", f"{URL}/n9/x"),
    data("deck type cannot be specified with a retry attempt", f"{URL}/n9/0/d"),
    data("failed to find node execution", f"{URL}/n9/d"),
    data("no task executions were listed", f"{URL}/n9/0/o"),
    data(NO_NODE, f"{URL}/n9/o", MISSING),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_bad_read_is_refused_alike_by_grpc_and_rest(
    case: Case, sandbox: Sandbox, admin: AdminServiceStub, data_proxy: DataProxyServiceStub
) -> None:
    call = getattr(admin, case.rpc, None) or getattr(data_proxy, case.rpc)
    error = await refused(call(case.request), case.code, case.message)
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        if case.get:
            response = await client.get(case.get)
        elif case.post:
            response = await client.post(case.post, json=json_format.MessageToDict(case.request))
        else:
            return
    assert (response.status_code, response.json()["message"]) == (HTTP[case.code], error.details())


async def test_dynamic_workflow_or_deck_of_a_node_without_one_is_not_found(
    sandbox: Sandbox, admin: AdminServiceStub, data_proxy: DataProxyServiceStub, plums: Identifier
) -> None:
    execution = await launched.launch(admin, plums)
    await play(admin, sandbox.objects_url, execution.name, launched.TASKS)
    node = NodeExecutionIdentifier(execution_id=execution, node_id="n0")
    message = "node does not contain dynamic workflow"
    await refused(admin.GetDynamicNodeWorkflow(GetDynamicNodeWorkflowRequest(id=node)), MISSING, message)
    wanted = CreateDownloadLinkRequest(node_execution_id=node, **DECK)
    await refused(data_proxy.CreateDownloadLink(wanted), MISSING, "no deckUrl found for request")
    path = f"{execution.project}/{execution.domain}/{execution.name}"
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        response = await client.get(f"node_executions/{path}/n0/dynamic_workflow")
        assert (response.status_code, response.json()["message"]) == (404, message)
        response = await client.get(f"data?flyte_url=flyte://v1/{path}/n0/d")
        assert (response.status_code, "deckUrl" in response.json()["message"]) == (404, True)
