"""Lists of executions, nodes and attempts through the gateway: wrong ones are refused alike by gRPC and REST."""

from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest, Sort
from flyteidl.admin.node_execution_pb2 import NodeExecutionForTaskListRequest, NodeExecutionListRequest
from flyteidl.admin.task_execution_pb2 import TaskExecutionListRequest
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.integration.stack import launched
from tests.support.entities import DOMAIN, PROJECT, identifier
from tests.support.play import play
from tests.support.sandbox import Sandbox


@dataclass(frozen=True)
class ListOf:
    rpc: str
    path: str
    request: Any
    field: str

    def with_fields(self, fields: dict[str, Any]) -> Any:
        """Return the request with `fields`, of which `sort_by` is a key and a direction."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        for name, value in fields.items():
            if name == "sort_by":
                request.sort_by.CopyFrom(Sort(key=value[0], direction=value[1]))
            else:
                setattr(request, name, value)
        return request


def lists(name: str) -> list[ListOf]:
    execution = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    node = NodeExecutionIdentifier(execution_id=execution, node_id="n0")
    task = TaskExecutionIdentifier(task_id=identifier(ResourceType.TASK, "stack.double"), node_execution_id=node)
    where = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    scope = f"{PROJECT}/{DOMAIN}/{name}"
    return [
        ListOf("ListExecutions", f"executions/{PROJECT}/{DOMAIN}", ResourceListRequest(id=where), "executions"),
        ListOf(
            "ListNodeExecutions",
            f"node_executions/{scope}",
            NodeExecutionListRequest(workflow_execution_id=execution),
            "node_executions",
        ),
        ListOf(
            "ListTaskExecutions",
            f"task_executions/{scope}/n0",
            TaskExecutionListRequest(node_execution_id=node),
            "task_executions",
        ),
        ListOf(
            "ListNodeExecutionsForTask",
            f"children/task_executions/{scope}/n0/{PROJECT}/{DOMAIN}/stack.double/v1/0",
            NodeExecutionForTaskListRequest(task_execution_id=task),
            "node_executions",
        ),
    ]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"filters": "phase=RUNNING"}, "invalid value for filters"),
    ({"filters": "like(phase,RUNNING)"}, "unrecognized filter function: like"),
    ({"filters": "eq(phase,RUNNING;QUEUED)"}, "invalid single value filter expression"),
    ({"filters": "eq(colour,red)"}, ".colour' is invalid filter"),
    ({"filters": "eq(signal.id,1)"}, "'s' entity is not allowed in filters"),
    ({"filters": "gte(created_at,yesterday)"}, "must conform to RFC3339"),
    ({"filters": "gte(started_at,2026-02-30T00:00:00Z)"}, "must conform to RFC3339"),
    ({"filters": "gte(duration,long)"}, "Failed to parse duration [long]"),
    ({"filters": "eq(id,1.5)"}, "'1.5' is not a value of id"),
    ({"filters": "eq(phase,\0)"}, "cannot hold a NUL character"),
    ({"filters": "eq(closure,x)"}, "cannot be compared in filters"),
    ({"sort_by": ("colour", 0)}, "invalid sort key 'colour'"),
    ({"sort_by": ("execution.created_at", 0)}, "invalid sort key 'execution.created_at'"),
    ({"token": "-1"}, "invalid pagination token -1 for List"),
    ({"token": "x"}, "invalid pagination token x for List"),
    ({"token": "99999999999999999999"}, "invalid pagination token"),
]


def query(fields: dict[str, Any]) -> dict[str, str]:
    """Return the fields of a request as REST spells them."""
    key, direction = fields.get("sort_by", ("", 0))
    sort = {"sort_by.key": key, "sort_by.direction": Sort.Direction.Name(direction)} if key else {}
    return {**{name: str(value) for name, value in fields.items() if name != "sort_by"}, **sort}


@pytest.fixture(scope="module")
async def name(admin: AdminServiceStub, sandbox: Sandbox, plums: Identifier) -> str:
    """Return the name of an execution that has succeeded."""
    execution = await launched.launch(admin, plums)
    await play(admin, sandbox.objects_url, execution.name, launched.TASKS)
    return str(execution.name)


@pytest.mark.parametrize("index", range(4), ids=lambda index: lists("x")[index].rpc)
async def test_wrong_list_is_refused_alike_by_grpc_and_rest(
    index: int, name: str, admin: AdminServiceStub, sandbox: Sandbox
) -> None:
    listing = lists(name)[index]
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        for changed, message in WRONG:
            fields = {"limit": 10, **changed}
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await getattr(admin, listing.rpc)(listing.with_fields(fields))
            rest = await client.get(listing.path, params=query(fields))
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT, changed
            assert message in (error.value.details() or "")
            assert (rest.status_code, rest.json()["code"], rest.json()["message"]) == (400, 3, error.value.details())


@pytest.mark.parametrize("index", range(4), ids=lambda index: lists("x")[index].rpc)
async def test_list_without_limit_is_one_of_a_hundred(
    index: int, name: str, admin: AdminServiceStub, sandbox: Sandbox
) -> None:
    listing = lists(name)[index]
    wanted = await getattr(admin, listing.rpc)(listing.with_fields({"limit": 100}))
    assert await getattr(admin, listing.rpc)(listing.request) == wanted
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        rest = await client.get(listing.path, headers={"Accept": "application/octet-stream"})
        assert type(wanted).FromString(rest.content) == wanted
        assert (await client.get(listing.path, params={"limit": "-1"})).status_code == 400


# Filters that select the execution, its node n0 or the attempt of that, each with one that selects nothing.
FILTERS = {
    "ListExecutions": [
        ("eq(phase,SUCCEEDED)+eq(execution.state,EXECUTION_ACTIVE)+eq(mode,MANUAL)", "eq(phase,RUNNING)"),
        ("eq(launch_entity,launch_plan)+gte(duration,0)+contains(workflow.name,s)", "eq(task.name,stack.double)"),
        ("gte(execution_created_at,2020-01-01T00:00:00.123456789Z)", "lt(created_at,2020-01-01T00:00:00Z)"),
    ],
    "ListNodeExecutions": [
        ("eq(node_id,n0)+eq(execution.phase,SUCCEEDED)", "eq(node_id,n0)+eq(execution.phase,RUNNING)"),
        ("eq(node_id,n0)+value_in(phase,SUCCEEDED;FAILED)", "eq(error_kind,USER)"),
    ],
    "ListTaskExecutions": [
        ("eq(retry_attempt,0)+eq(task.name,stack.double)", "eq(retry_attempt,1)"),
        ("eq(node_execution.phase,SUCCEEDED)+eq(execution.phase,SUCCEEDED)", "eq(execution.user,another user)"),
    ],
}


@pytest.mark.parametrize("index", range(3), ids=lambda index: lists("x")[index].rpc)
async def test_filters_of_joined_entities_select_the_same_by_grpc_and_rest_in_every_order(
    index: int, name: str, admin: AdminServiceStub, sandbox: Sandbox
) -> None:
    listing = lists(name)[index]
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        for filters, number in [
            (text, number) for pair in FILTERS[listing.rpc] for text, number in zip(pair, (1, 0), strict=True)
        ]:
            for sort in (("created_at", 0), ("id", 1), ("phase", 0)):
                fields = {"limit": 10, "filters": f"eq(execution_name,{name})+{filters}", "sort_by": sort}
                page = await getattr(admin, listing.rpc)(listing.with_fields(fields))
                rest = await client.get(
                    listing.path, params=query(fields), headers={"Accept": "application/octet-stream"}
                )
                assert len(getattr(page, listing.field)) == number, filters
                assert type(page).FromString(rest.content) == page
