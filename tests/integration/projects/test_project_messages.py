"""Service requests for projects and announcements about them, over NATS."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from flyteidl.admin.project_pb2 import (
    InactiveProject,
    Project,
    ProjectGetRequest,
    ProjectRegisterRequest,
)
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.projects import GET_PROJECT, PROJECT_REGISTERED, PROJECT_UPDATED, check_active_with_domain
from services.kit.errors import InvalidArgument, NotFound
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery
from tests.support.parts import Parts, Served, service
from tests.support.projects import register
from tests.support.refusals import refused

pytestmark = pytest.mark.usefixtures("served")


@pytest.fixture(scope="module")
async def served(parts: Parts) -> AsyncIterator[Served]:
    async with service("projects", parts, "test_project_messages") as running:
        yield running


@pytest.fixture(scope="module")
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


class TestServiceRequests:
    async def test_get_project_request_returns_state_and_domains(self, admin: AdminServiceStub, bus: Bus) -> None:
        await register(admin, "requested")
        project = await bus.request(GET_PROJECT, ProjectGetRequest(id="requested"))
        assert project == await admin.GetProject(ProjectGetRequest(id="requested"))
        check_active_with_domain(project, "staging")

    async def test_change_of_state_is_in_the_next_response(self, admin: AdminServiceStub, bus: Bus) -> None:
        await register(admin, "moody")
        await admin.UpdateProject(Project(id="moody", state=Project.ARCHIVED))
        with pytest.raises(InvalidArgument) as inactive:
            check_active_with_domain(await bus.request(GET_PROJECT, ProjectGetRequest(id="moody")), "staging")
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
