"""ListProjects, on a real database (lists.md#listprojects)."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from flyteidl.admin.common_pb2 import Sort
from flyteidl.admin.project_pb2 import ProjectListRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.parts import Parts, Served, service
from tests.support.projects import register
from tests.support.refusals import refused


@pytest.fixture(scope="module")
async def served(parts: Parts) -> AsyncIterator[Served]:
    async with service("projects", parts, "test_project_lists") as running:
        yield running


@pytest.fixture(scope="module")
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


async def ids(admin: AdminServiceStub, **request: Any) -> list[str]:
    response = await admin.ListProjects(ProjectListRequest(**request))
    return [project.id for project in response.projects]


@pytest.fixture(scope="module")
async def shelf(admin: AdminServiceStub) -> None:
    for number, state in enumerate((0, 1, 2, 3, 0)):
        await register(admin, f"shelf-{number}", name=f"Shelf {9 - number}", state=state)


@pytest.mark.usefixtures("shelf")
class TestList:
    async def test_only_archived_projects_are_hidden(self, admin: AdminServiceStub) -> None:
        found = [name for name in await ids(admin) if name.startswith("shelf-")]
        assert found == ["shelf-0", "shelf-2", "shelf-3", "shelf-4"]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ("eq(identifier,shelf-1)", ["shelf-1"]),
            ("eq(project.identifier,shelf-1)", ["shelf-1"]),
            ("contains(identifier,shelf-)+eq(state,1)", ["shelf-1"]),
            ("contains(identifier,shelf-)+ne(state,1)", ["shelf-0", "shelf-2", "shelf-3", "shelf-4"]),
            ("contains(identifier,shelf-)+value_in(state,1;2)", ["shelf-1", "shelf-2"]),
            ("contains(name,Shelf 9)", ["shelf-0"]),
            ("contains(identifier,shelf-)+eq(description,nothing)", []),
            ("contains(identifier,shelf-)+gt(created_at,2020-01-01T00:00:00Z)", [f"shelf-{n}" for n in range(5)]),
            ("contains(identifier,shelf-)+gt(deleted_at,2020-01-01T00:00:00Z)", []),
        ],
    )
    async def test_filter_decides_alone_archived_ones_included(
        self, admin: AdminServiceStub, filters: str, expected: list[str]
    ) -> None:
        assert await ids(admin, filters=filters) == expected

    @pytest.mark.parametrize("key", ["id", "created_at", "updated_at", "identifier"])
    async def test_sort_key_orders_the_list(self, admin: AdminServiceStub, key: str) -> None:
        expected = [f"shelf-{number}" for number in range(5)]
        chosen = {"filters": "contains(identifier,shelf-)"}
        ascending = Sort(key=key, direction=Sort.ASCENDING)
        assert await ids(admin, sort_by=ascending, **chosen) == expected
        assert await ids(admin, sort_by=Sort(key=key), **chosen) == expected[::-1]

    @pytest.mark.parametrize("key", ["name", "description", "labels", "state", "deleted_at"])
    async def test_list_is_sorted_by_every_column_of_flyteadmin(self, admin: AdminServiceStub, key: str) -> None:
        chosen = {"filters": "contains(identifier,shelf-)"}
        assert len(await ids(admin, sort_by=Sort(key=key), **chosen)) == 5

    async def test_pages_join_to_the_whole_and_a_full_last_page_is_followed_by_an_empty_one(
        self, admin: AdminServiceStub
    ) -> None:
        request = ProjectListRequest(limit=2, filters="contains(identifier,shelf-)+value_in(state,0;1;2)")
        pages, tokens = [], []
        while True:
            response = await admin.ListProjects(request)
            pages.append([project.id for project in response.projects])
            tokens.append(response.token)
            if not response.token:
                break
            request.token = response.token
        assert pages == [["shelf-0", "shelf-1"], ["shelf-2", "shelf-4"], []]
        assert tokens == ["2", "4", ""]

    async def test_without_a_limit_everything_is_on_one_page(self, admin: AdminServiceStub) -> None:
        response = await admin.ListProjects(ProjectListRequest(filters="contains(identifier,shelf-)"))
        assert (len(response.projects), response.token) == (5, "")
        nothing = await admin.ListProjects(ProjectListRequest(filters="eq(identifier,unknown)"))
        assert (len(nothing.projects), nothing.token) == (0, "")

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"filters": "nonsense"}, "invalid value for filters"),
            ({"filters": "eq(task.name,a)"}, "'t' entity is not allowed in filters"),
            ({"filters": "eq(domain,a)"}, "'p.domain' is invalid filter"),
            ({"filters": "like(name,a)"}, "unrecognized filter function: like"),
            ({"sort_by": Sort(key="domain")}, "invalid sort key 'domain'"),
            ({"sort_by": Sort()}, "invalid sort key ''"),
            ({"token": "-1"}, "invalid pagination token -1 for ListProjects"),
            ({"token": "a"}, "invalid pagination token a for ListProjects"),
            ({"filters": "nonsense", "sort_by": Sort(), "token": "a"}, "invalid value for filters"),
            ({"sort_by": Sort(), "token": "a"}, "invalid sort key ''"),
        ],
    )
    async def test_wrong_list_request_is_refused_in_the_order_of_flyteadmin(
        self, admin: AdminServiceStub, fields: dict[str, Any], message: str
    ) -> None:
        error = await refused(admin.ListProjects(ProjectListRequest(**fields)), grpc.StatusCode.INVALID_ARGUMENT)
        assert error.details() == message

    async def test_state_that_is_no_number_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        await refused(
            admin.ListProjects(ProjectListRequest(filters="eq(state,ACTIVE)")), grpc.StatusCode.INVALID_ARGUMENT
        )
