"""The projects service as its callers see it: through a gRPC channel, over NATS, on a real database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import Labels, ObjectGetRequest
from flyteidl.admin.project_pb2 import (
    GetDomainRequest,
    Project,
    ProjectGetRequest,
    ProjectListRequest,
    ProjectRegisterRequest,
)
from flyteidl.admin.version_pb2 import GetVersionRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.kit.process import service as process
from services.kit.process.version import running_version
from services.projects.app import build
from services.projects.config import Settings
from tests.support.parts import Parts, Served, service
from tests.support.projects import register
from tests.support.refusals import code_of

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


async def refused(call: Awaitable[object], code: grpc.StatusCode, message: str | None = None) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() is code
    assert message is None or error.value.details() == message
    return error.value


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
        found = await admin.ListProjects(ProjectListRequest(filters="eq(name,foobar)"))
        assert [project.id for project in found.projects] == ["updated"]

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
