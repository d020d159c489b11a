"""Pages of ten thousand projects take as long as pages of a hundred."""

import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from flyteidl.admin.common_pb2 import Sort
from flyteidl.admin.project_pb2 import Project, ProjectListRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.parts import Parts, service

TOTAL = 10_000
# A page of a hundred projects takes one or two milliseconds; the rest is for a slow machine. Reading or sorting whole
# messages of ten thousand would take longer.
MOST_SECONDS = 0.02
TRIES = 10


@pytest.fixture(scope="module")
async def admin(parts: Parts) -> AsyncIterator[AdminServiceStub]:
    async with service("projects", parts, "many_projects", seed_projects=()) as served:
        async with await psycopg.AsyncConnection.connect(served.settings.database_url, autocommit=True) as connection:
            statement = (
                "INSERT INTO projects (identifier, name, description, state, created_at, updated_at, message)"
                " VALUES (%s, %s, '', %s, now() + %s * interval '1 second', now(), %b)"
            )
            async with connection.cursor() as cursor:
                await cursor.executemany(statement, [row(number) for number in range(TOTAL)])
            await connection.execute("ANALYZE projects")
        yield AdminServiceStub(served.channel)


def row(number: int) -> tuple[str, str, int, int, bytes]:
    """Return a project's row; every tenth is archived, and names are in another order than ids."""
    project = Project(
        id=f"p-{number:05}",
        name=f"Name {number * 7919 % TOTAL:05}",
        state=Project.ACTIVE if number % 10 else Project.ARCHIVED,
    )
    return project.id, project.name, project.state, number, project.SerializeToString()


@pytest.mark.parametrize(
    ("request_", "first", "found"),
    [
        ({"limit": 100}, "p-00001", 100),
        ({"limit": 100, "token": "8000"}, "p-08889", 100),
        ({"limit": 100, "sort_by": Sort(key="created_at"), "filters": "ne(state,1)"}, "p-09999", 100),
        ({"limit": 100, "sort_by": Sort(key="name", direction=Sort.ASCENDING)}, None, 100),
        ({"limit": 100, "sort_by": Sort(key="updated_at")}, None, 100),
        ({"limit": 1, "filters": "eq(identifier,p-09990)"}, "p-09990", 1),
        ({"limit": 100, "filters": "contains(name,Name 0000)"}, None, 10),
        ({"limit": 100, "filters": "eq(state,1)"}, "p-00000", 100),
        ({"limit": 100, "filters": "value_in(identifier,p-00010;p-09999)"}, "p-00010", 2),
    ],
)
async def test_page_of_ten_thousand_projects_is_fast(
    admin: AdminServiceStub, request_: dict[str, Any], first: str | None, found: int
) -> None:
    took = []
    for _ in range(TRIES):
        started = time.perf_counter()
        response = await admin.ListProjects(ProjectListRequest(**request_))
        took.append(time.perf_counter() - started)
        assert len(response.projects) == found
        assert first is None or response.projects[0].id == first
    assert min(took) < MOST_SECONDS


async def test_pages_of_all_projects_contain_each_project_once(admin: AdminServiceStub) -> None:
    """The cluster resource controller lists in this way."""
    request = ProjectListRequest(limit=100, sort_by=Sort(key="created_at"), filters="ne(state,1)")
    seen: list[str] = []
    while True:
        response = await admin.ListProjects(request)
        seen += [project.id for project in response.projects]
        if not response.token:
            break
        request.token = response.token
    assert seen == [f"p-{number:05}" for number in reversed(range(TOTAL)) if number % 10]
