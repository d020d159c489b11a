"""ListExecutions: filters, joins, pages and invalid requests, on rows in a real database."""

from collections.abc import Sequence
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest, Sort
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.entities import DOMAIN, PROJECT
from tests.support.execution_rows import PROJECT_DOMAIN, execution, insert, listed
from tests.support.refusals import refused


@pytest.fixture(scope="module")
async def several(database: psycopg.AsyncConnection[Any]) -> None:
    """Store executions of the user `lister`, in the order of their names."""
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
        await insert(database, "execution_tags", **PROJECT_DOMAIN, execution_name=name, key=key, value=value)
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
        ("gte(created_at,2020-01-01T00:00:00+00:00)+eq(task.name,ta)", ["l3"]),
        ("contains(execution_name,3)", ["l3"]),
        ("eq(execution_tag.key,k)+eq(execution_tag.value,v)", ["l1"]),
        ("eq(execution_tag.key,x)+eq(execution_tag.value,v)", []),
        ("eq(admin_tag.name,k)", ["l1", "l2"]),
        ("eq(admin_tag.name,k)+eq(admin_tag.name,x)", ["l1"]),
        ("value_in(admin_tag.name,k;x)", ["l1", "l2", "l3"]),
    ],
)
async def test_list_returns_the_executions_that_match_the_filters(
    admin: AdminServiceStub, filters: str, names: list[str]
) -> None:
    filters = "eq(user,lister)" + ("+" + filters if filters else "")
    assert await listed(admin, filters) == names


@pytest.mark.usefixtures("several")
async def test_pages_end_with_an_empty_token(admin: AdminServiceStub) -> None:
    scope = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    seen, token = [], ""
    for _ in range(5):
        page = await admin.ListExecutions(
            ResourceListRequest(
                id=scope, limit=2, token=token, filters="eq(user,lister)", sort_by=Sort(key="created_at")
            )
        )
        seen += [item.id.name for item in page.executions]
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
        ({"filters": "phase=RUNNING"}, "invalid value for filters"),
        ({"filters": "eq(name,x)"}, "'e.name' is invalid filter"),
        ({"filters": "eq(signal.id,1)"}, "'s' entity is not allowed in filters"),
        ({"filters": "gte(created_at,yesterday)"}, "must conform to RFC3339"),
        ({"sort_by": Sort()}, "invalid sort key ''"),
        ({"token": "-1"}, "invalid pagination token -1 for ListExecutions"),
    ],
)
async def test_invalid_list_requests_are_refused(admin: AdminServiceStub, fields: dict[str, Any], message: str) -> None:
    await refused(listed(admin, **fields), grpc.StatusCode.INVALID_ARGUMENT, message)
