"""The projects service as its callers see it: through a gRPC channel, over NATS, on a real database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flyteidl.admin.common_pb2 import Labels, ObjectGetRequest, Sort
from flyteidl.admin.project_pb2 import (
    GetDomainRequest,
    InactiveProject,
    Project,
    ProjectGetRequest,
    ProjectListRequest,
    ProjectRegisterRequest,
)
from flyteidl.admin.version_pb2 import GetVersionRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from sqlalchemy import create_engine

from services.contracts.projects import GET_PROJECT, PROJECT_REGISTERED, PROJECT_UPDATED, check_registered
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, NotFound
from services.kit.messaging.bus import Bus, Delivery
from services.kit.messaging.outbox import announcements_of
from services.kit.process import service as process
from services.kit.process.version import running_version
from services.projects.app import build
from services.projects.config import Settings
from services.projects.store.tables import metadata
from tests.support.parts import Parts, Served, service

DOMAINS = ["development", "staging", "production"]

pytestmark = pytest.mark.usefixtures("served")


@pytest.fixture(scope="module")
async def served(parts: Parts) -> AsyncIterator[Served]:
    async with service("projects", parts, "test_projects") as running:
        yield running


@pytest.fixture(scope="module")
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[None]:
    """Run another process of the service on the same database, without a port of its own."""
    async with AsyncExitStack() as stack:
        db = await Database.open(settings.database_url)
        stack.push_async_callback(db.close)
        bus = await Bus.connect(settings.nats_url, "projects")
        stack.push_async_callback(bus.close)
        await build(settings, process.Connections(db, bus), stack)
        yield


async def register(admin: AdminServiceStub, identifier: str, **fields: Any) -> Project:
    project = Project(**{"id": identifier, "name": identifier, **fields})
    await admin.RegisterProject(ProjectRegisterRequest(project=project))
    return project


async def refused(call: Awaitable[object], code: grpc.StatusCode, message: str | None = None) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() is code
    assert message is None or error.value.details() == message
    return error.value


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def ids(admin: AdminServiceStub, **request: Any) -> list[str]:
    response = await admin.ListProjects(ProjectListRequest(**request))
    return [project.id for project in response.projects]


class TestRegister:
    async def test_registered_project_is_listed_with_every_configured_domain(self, admin: AdminServiceStub) -> None:
        await register(admin, "potato", name="spud", description="root", labels=Labels(values={"a": "b"}), org="acme")
        response = await admin.ListProjects(ProjectListRequest())
        assert [[domain.id for domain in project.domains] for project in response.projects] == [
            DOMAINS for _ in response.projects
        ]
        (potato,) = [project for project in response.projects if project.id == "potato"]
        assert (potato.name, potato.description, dict(potato.labels.values)) == ("spud", "root", {"a": "b"})
        assert (potato.state, potato.org) == (Project.ACTIVE, "")

    async def test_same_id_again_is_already_exists(self, admin: AdminServiceStub) -> None:
        await register(admin, "twice")
        await refused(
            admin.RegisterProject(ProjectRegisterRequest(project=Project(id="twice", name="other"))),
            grpc.StatusCode.ALREADY_EXISTS,
            'value with matching already exists (duplicate key value violates unique constraint "projects_pkey")',
        )
        assert (await admin.GetProject(ProjectGetRequest(id="twice"))).name == "twice"

    async def test_archived_project_keeps_its_id_and_stays_archived(self, admin: AdminServiceStub) -> None:
        await register(admin, "attic", state=Project.ARCHIVED)
        await refused(
            admin.RegisterProject(ProjectRegisterRequest(project=Project(id="attic", name="attic"))),
            grpc.StatusCode.ALREADY_EXISTS,
        )
        assert (await admin.GetProject(ProjectGetRequest(id="attic"))).state == Project.ARCHIVED

    async def test_concurrent_registrations_of_an_id_succeed_once(self, admin: AdminServiceStub) -> None:
        request = ProjectRegisterRequest(project=Project(id="contended", name="contended"))
        codes = await asyncio.gather(*(code_of(admin.RegisterProject(request)) for _ in range(20)))
        assert sorted(code.name for code in codes) == ["ALREADY_EXISTS"] * 19 + ["OK"]

    async def test_wrong_project_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        await refused(
            admin.RegisterProject(ProjectRegisterRequest()), grpc.StatusCode.INVALID_ARGUMENT, "missing project"
        )

    async def test_text_that_postgresql_cannot_store_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        await refused(
            admin.RegisterProject(ProjectRegisterRequest(project=Project(id="nul", name="n\0l"))),
            grpc.StatusCode.INVALID_ARGUMENT,
        )
        await refused(admin.GetProject(ProjectGetRequest(id="n\0l")), grpc.StatusCode.INVALID_ARGUMENT)


class TestUpdate:
    async def test_name_and_description_change_and_labels_stay(self, admin: AdminServiceStub) -> None:
        await register(admin, "updated", labels=Labels(values={"a": "b"}))
        await admin.UpdateProject(Project(id="updated", name="foobar", description="d"))
        project = await admin.GetProject(ProjectGetRequest(id="updated"))
        assert (project.name, project.description, dict(project.labels.values)) == ("foobar", "d", {"a": "b"})
        assert await ids(admin, filters="eq(name,foobar)") == ["updated"]

    async def test_empty_labels_clear_them(self, admin: AdminServiceStub) -> None:
        await register(admin, "cleared", labels=Labels(values={"a": "b"}))
        await admin.UpdateProject(Project(id="cleared", labels=Labels()))
        assert not (await admin.GetProject(ProjectGetRequest(id="cleared"))).labels.values

    @pytest.mark.parametrize(
        "change",
        [{"name": "n"}, {"description": "d"}, {"labels": Labels(values={"a": "b"})}],
        ids=lambda change: next(iter(change)),
    )
    async def test_partial_update_leaves_an_archived_project_archived(
        self, admin: AdminServiceStub, change: dict[str, Any]
    ) -> None:
        identifier = f"asleep-{next(iter(change))}"
        await register(admin, identifier)
        await admin.UpdateProject(Project(id=identifier, state=Project.ARCHIVED))
        await admin.UpdateProject(Project(id=identifier, **change))
        project = await admin.GetProject(ProjectGetRequest(id=identifier))
        assert project.state == Project.ARCHIVED
        assert {name: getattr(project, name) for name in change} == change

    @pytest.mark.parametrize("labels", [None, Labels()], ids=["alone", "as flytectl sends it"])
    async def test_update_with_the_state_alone_reactivates_a_project(
        self, admin: AdminServiceStub, labels: Labels | None
    ) -> None:
        identifier = f"revived-{labels is None}".lower()
        await register(admin, identifier)
        await admin.UpdateProject(Project(id=identifier, state=Project.ARCHIVED))
        await admin.UpdateProject(Project(id=identifier, state=Project.ACTIVE, labels=labels))
        assert (await admin.GetProject(ProjectGetRequest(id=identifier))).state == Project.ACTIVE

    async def test_update_of_an_unknown_project_is_not_found_before_labels_are_checked(
        self, admin: AdminServiceStub
    ) -> None:
        await refused(
            admin.UpdateProject(Project(id="unknown", labels=Labels(values={"foo": "#bar"}))),
            grpc.StatusCode.NOT_FOUND,
            "project [unknown] not found",
        )

    async def test_bad_label_is_refused_and_changes_nothing(self, admin: AdminServiceStub) -> None:
        await register(admin, "labelled")
        call = admin.UpdateProject(Project(id="labelled", name="other", labels=Labels(values={"foo": "#bar"})))
        error = await refused(call, grpc.StatusCode.INVALID_ARGUMENT)
        assert (error.details() or "").startswith(
            "invalid label value [#bar]: [a valid label must be an empty string or consist of"
        )
        assert (await admin.GetProject(ProjectGetRequest(id="labelled"))).name == "labelled"

    async def test_empty_id_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        await refused(admin.UpdateProject(Project()), grpc.StatusCode.INVALID_ARGUMENT, "missing project_id")

    async def test_concurrent_updates_of_a_project_are_all_applied(self, admin: AdminServiceStub) -> None:
        await register(admin, "shared")
        await asyncio.gather(
            *(
                admin.UpdateProject(Project(id="shared", **change))
                for change in ({"name": "n"}, {"description": "d"}, {"labels": Labels(values={"a": "b"})})
                for _ in range(5)
            )
        )
        project = await admin.GetProject(ProjectGetRequest(id="shared"))
        assert (project.name, project.description, dict(project.labels.values)) == ("n", "d", {"a": "b"})


class TestGet:
    async def test_get_project_returns_an_archived_project(self, admin: AdminServiceStub) -> None:
        await register(admin, "stored", state=Project.ARCHIVED)
        project = await admin.GetProject(ProjectGetRequest(id="stored"))
        assert project.state == Project.ARCHIVED
        assert [domain.name for domain in project.domains] == DOMAINS
        assert not project.HasField("labels")

    async def test_unknown_project_is_not_found(self, admin: AdminServiceStub) -> None:
        await refused(
            admin.GetProject(ProjectGetRequest(id="unknown")),
            grpc.StatusCode.NOT_FOUND,
            "project [unknown] not found",
        )

    async def test_empty_id_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        await refused(admin.GetProject(ProjectGetRequest()), grpc.StatusCode.INVALID_ARGUMENT, "missing project_id")


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
        await refused(admin.ListProjects(ProjectListRequest(**fields)), grpc.StatusCode.INVALID_ARGUMENT, message)

    async def test_state_that_is_no_number_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        await refused(
            admin.ListProjects(ProjectListRequest(filters="eq(state,ACTIVE)")), grpc.StatusCode.INVALID_ARGUMENT
        )


class TestSystem:
    async def test_get_domains_returns_the_configured_order(self, admin: AdminServiceStub) -> None:
        response = await admin.GetDomains(GetDomainRequest())
        assert [(domain.id, domain.name) for domain in response.domains] == [(name, name) for name in DOMAINS]

    async def test_get_version_returns_the_running_version(self, admin: AdminServiceStub, served: Served) -> None:
        response = await admin.GetVersion(GetVersionRequest())
        version = response.control_plane_version
        assert (version.Version, version.Build) == (f"v{running_version().version}", served.settings.build)
        assert version.BuildTime

    async def test_unimplemented_method_is_named(self, admin: AdminServiceStub) -> None:
        error = await refused(admin.GetTask(ObjectGetRequest()), grpc.StatusCode.UNIMPLEMENTED)
        assert "GetTask" in (error.details() or "")

    async def test_service_is_ready(self, served: Served) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{served.http_url}/readyz")).status_code == httpx.codes.OK


class TestServiceRequests:
    async def test_get_project_request_returns_state_and_domains(self, admin: AdminServiceStub, bus: Bus) -> None:
        await register(admin, "requested")
        project = await bus.request(GET_PROJECT, ProjectGetRequest(id="requested"))
        assert project == await admin.GetProject(ProjectGetRequest(id="requested"))
        check_registered(project, "staging")

    async def test_change_of_state_is_in_the_next_response(self, admin: AdminServiceStub, bus: Bus) -> None:
        await register(admin, "moody")
        await admin.UpdateProject(Project(id="moody", state=Project.ARCHIVED))
        with pytest.raises(InvalidArgument) as inactive:
            check_registered(await bus.request(GET_PROJECT, ProjectGetRequest(id="moody")), "staging")
        assert inactive.value.details == (InactiveProject(id="moody"),)

    @pytest.mark.parametrize("identifier", ["unknown", ""])
    async def test_unknown_project_is_not_found(self, bus: Bus, identifier: str) -> None:
        with pytest.raises(NotFound) as error:
            await bus.request(GET_PROJECT, ProjectGetRequest(id=identifier))
        assert error.value.message == f"project [{identifier}] not found"


async def test_every_change_is_announced_once_in_order(admin: AdminServiceStub, bus: Bus) -> None:
    expected = [(PROJECT_REGISTERED.subject, 0), (PROJECT_UPDATED.subject, 1), (PROJECT_UPDATED.subject, 0)]
    received: list[tuple[str, int]] = []
    complete = asyncio.Event()

    async def receive(delivery: Delivery) -> None:
        project = Project.FromString(delivery.payload)
        if project.id == "reported":
            received.append((delivery.subject, project.state))
        if project.id == "last":
            complete.set()

    await bus.consume(announcements_of("projects"), "flyte.projects.project.>", "test-projects", receive)
    await register(admin, "reported")
    await refused(
        admin.RegisterProject(ProjectRegisterRequest(project=Project(id="reported", name="r"))),
        grpc.StatusCode.ALREADY_EXISTS,
    )
    await admin.UpdateProject(Project(id="reported", state=Project.ARCHIVED))
    await admin.UpdateProject(Project(id="reported"))
    await register(admin, "last")
    async with asyncio.timeout(10):
        await complete.wait()
    assert received == expected


async def test_seeding_inserts_absent_projects_and_leaves_existing_ones(
    admin: AdminServiceStub, served: Served
) -> None:
    seeded = await admin.GetProject(ProjectGetRequest(id="flytesnacks"))
    assert (seeded.name, seeded.description) == ("flytesnacks", "flytesnacks description")
    await admin.UpdateProject(Project(id="flytesnacks", description="mine", state=Project.ARCHIVED))

    settings = served.settings.model_copy(update={"seed_projects": ("flytetester", "flytesnacks")})
    async with replica(settings):
        existing = await admin.GetProject(ProjectGetRequest(id="flytesnacks"))
        assert (existing.description, existing.state) == ("mine", Project.ARCHIVED)
        new = await admin.GetProject(ProjectGetRequest(id="flytetester"))
        assert (new.description, new.state) == ("flytetester description", Project.ACTIVE)


def test_migrations_create_the_declared_tables(served: Served) -> None:
    engine = create_engine(served.settings.database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
