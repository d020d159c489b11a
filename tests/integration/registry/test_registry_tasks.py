"""Tasks as clients of the registry see them: over gRPC, with the real projects service."""

import asyncio
import math
from collections.abc import AsyncIterator

import grpc
import psycopg
import pytest
from flyteidl.admin.common_pb2 import (
    NamedEntityIdentifier,
    NamedEntityIdentifierListRequest,
    ObjectGetRequest,
    ResourceListRequest,
    Sort,
)
from flyteidl.admin.description_entity_pb2 import DescriptionEntity
from flyteidl.admin.matchable_resource_pb2 import MatchingAttributes, TaskResourceAttributes, TaskResourceSpec
from flyteidl.admin.project_pb2 import InactiveProject, Project
from flyteidl.admin.task_pb2 import Task, TaskCreateRequest
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.tasks_pb2 import Resources
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.registry import TASK_REGISTERED
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery
from tests.support import attributes
from tests.support.entities import INTEGER, PROJECT, STRING, identifier
from tests.support.entities import task as container_task
from tests.support.parts import Parts, Served, service
from tests.support.refusals import code_of, detail_of, refused

OK = grpc.StatusCode.OK
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
async def served_projects(parts: Parts) -> AsyncIterator[Served]:
    async with service("projects", parts, "registry_tasks_projects", seed_projects=(PROJECT, "old")) as running:
        yield running


@pytest.fixture(scope="module")
async def projects(served_projects: Served) -> AdminServiceStub:
    admin = AdminServiceStub(served_projects.channel)
    await admin.UpdateProject(Project(id="old", state=Project.ARCHIVED))
    return admin


@pytest.fixture(scope="module")
async def served(parts: Parts, projects: AdminServiceStub) -> AsyncIterator[Served]:
    assert projects  # to which the registry sends service requests
    whitelist = {"sparkonk8s": [{"project": "elsewhere"}]}
    objects = f"file://{parts.folder}/registry-tasks"
    settings = {"objects_url": objects, "task_type_whitelist": whitelist}
    async with service("registry", parts, "registry_tasks", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


@pytest.fixture(scope="module")
async def registered(admin: AdminServiceStub) -> None:
    """Register three names with three versions each, in a domain of their own."""
    for version in ("123", "124", "125"):
        for name in ("name", "secondtask", "thirdtask"):
            request = task(name, version)
            request.id.domain = "staging"
            await admin.CreateTask(request)


def task(name: str, version: str = "v1", image: str = "python:3.11") -> TaskCreateRequest:
    return container_task(name, {"a": INTEGER}, {"o0": STRING}, version, image)


def get_request(name: str, version: str = "v1", kind: ResourceType = ResourceType.TASK) -> ObjectGetRequest:
    return ObjectGetRequest(id=identifier(kind, name, version))


class TestCreate:
    async def test_get_task_returns_the_whole_registered_task(self, admin: AdminServiceStub) -> None:
        request = task("whole")
        request.id.org = "an organisation"
        request.spec.template.id.name = "overwritten by the id of the request"
        request.spec.description.short_description = "adds nothing"
        await admin.CreateTask(request)
        found = await admin.GetTask(get_request("whole"))
        assert found.id == identifier(ResourceType.TASK, "whole")
        request.spec.template.id.CopyFrom(request.id)
        assert found.closure.compiled_task.template == request.spec.template
        assert found.closure.HasField("created_at")
        assert found.short_description == "adds nothing"

    async def test_same_task_again_is_already_exists(self, admin: AdminServiceStub) -> None:
        await admin.CreateTask(task("same"))
        error = await refused(
            admin.CreateTask(task("same")), ALREADY_EXISTS, "task with identical structure already exists"
        )
        assert "grpc-status-details-bin" not in str(error.trailing_metadata())

    async def test_another_description_is_the_same_task_and_leaves_the_old_one(self, admin: AdminServiceStub) -> None:
        request = task("described")
        request.spec.description.CopyFrom(DescriptionEntity(short_description="old"))
        await admin.CreateTask(request)
        request.spec.description.short_description = "new"
        await refused(admin.CreateTask(request), ALREADY_EXISTS)
        assert (await admin.GetTask(get_request("described"))).short_description == "old"

    async def test_another_structure_is_invalid_argument_with_a_diff(self, admin: AdminServiceStub) -> None:
        await admin.CreateTask(task("changed"))
        error = await refused(
            admin.CreateTask(task("changed", image="python:3.12")),
            INVALID_ARGUMENT,
            "changed task with different structure already exists. (Please register a new version of the task):\n",
        )
        assert '/template/container/image:\n\t- "python:3.11" \n\t+ "python:3.12"' in (error.details() or "")
        assert (
            await admin.GetTask(get_request("changed"))
        ).closure.compiled_task.template.container.image == "python:3.11"

    async def test_concurrent_registrations_succeed_once(self, admin: AdminServiceStub) -> None:
        codes = await asyncio.gather(*(code_of(admin.CreateTask(task("raced"))) for _ in range(8)))
        assert sorted(codes, key=lambda code: code.name) == [ALREADY_EXISTS] * 7 + [OK]

    async def test_concurrent_different_tasks_register_once(self, admin: AdminServiceStub) -> None:
        requests = [task("raced-apart", image=f"python:{i}") for i in range(6)]
        codes = await asyncio.gather(*(code_of(admin.CreateTask(request)) for request in requests))
        assert sorted(codes, key=lambda code: code.name) == [INVALID_ARGUMENT] * 5 + [OK]

    async def test_name_may_contain_any_characters(self, admin: AdminServiceStub) -> None:
        name = "a/b c.d+ü%2F" + "x" * 200
        await admin.CreateTask(task(name, "v 1/2"))
        assert (await admin.GetTask(get_request(name, "v 1/2"))).id.name == name

    @pytest.mark.parametrize(
        ("field", "value", "text"),
        [
            ("resource_type", ResourceType.UNSPECIFIED, "unexpected resource type unspecified for identifier ["),
            ("project", "", "missing project"),
            ("domain", "", "missing domain"),
            ("name", "", "missing name"),
            ("version", "", "missing version"),
            ("version", "v" * 256, "version"),
            ("version", "v\0", "cannot be stored"),
            ("project", "nowhere", "failed to validate that project [nowhere] and domain [development] are registered"),
            ("domain", "nowhere", "domain [nowhere] is unrecognized by system"),
        ],
    )
    async def test_bad_identifier_is_refused(
        self, admin: AdminServiceStub, field: str, value: str | int, text: str
    ) -> None:
        request = task("bad-identifier")
        setattr(request.id, field, value)
        await refused(admin.CreateTask(request), INVALID_ARGUMENT, text)

    async def test_project_and_domain_are_checked_before_the_spec(self, admin: AdminServiceStub) -> None:
        request = TaskCreateRequest(id=identifier(ResourceType.TASK, "n", project="nowhere"))
        await refused(admin.CreateTask(request), INVALID_ARGUMENT, "nowhere")
        await refused(
            admin.CreateTask(TaskCreateRequest(id=identifier(ResourceType.TASK, "n"))), INVALID_ARGUMENT, "missing spec"
        )
        await refused(admin.CreateTask(TaskCreateRequest()), INVALID_ARGUMENT, "missing id")

    async def test_archived_project_is_named_in_the_detail(self, admin: AdminServiceStub) -> None:
        request = task("in-an-archived-project")
        request.id.project = "old"
        error = await refused(admin.CreateTask(request), INVALID_ARGUMENT, "project [old] is not active")
        assert detail_of(error, InactiveProject()).id == "old"

    async def test_whitelisted_type_is_refused_elsewhere(self, admin: AdminServiceStub) -> None:
        request = task("spark")
        request.spec.template.type = "sparkonk8s"
        await refused(admin.CreateTask(request), INVALID_ARGUMENT, "task type must be whitelisted before use")

    async def test_value_without_json_form_is_refused_and_not_stored(self, admin: AdminServiceStub) -> None:
        request = task("endless")
        request.spec.template.custom.update({"limit": math.inf})
        await refused(admin.CreateTask(request), INVALID_ARGUMENT, "a number that is not finite")
        await refused(admin.GetTask(get_request("endless")), grpc.StatusCode.NOT_FOUND)

    async def test_task_that_does_not_compile_is_refused(self, admin: AdminServiceStub) -> None:
        request = task("no-command")
        del request.spec.template.container.args[:]
        await refused(
            admin.CreateTask(request), INVALID_ARGUMENT, "task failed compilation with Collected Errors: 1\n\tError 0: "
        )

    async def test_registration_is_announced(self, admin: AdminServiceStub, bus: Bus) -> None:
        seen: list[Identifier] = []
        arrived = asyncio.Event()

        async def receive(delivery: Delivery) -> None:
            seen.append(Identifier.FromString(delivery.payload))
            if seen[-1].name == "reported":
                arrived.set()

        await admin.CreateTask(task("reported"))
        await bus.consume(announcements_of("registry"), TASK_REGISTERED.subject, "test-registry-tasks", receive)
        await asyncio.wait_for(arrived.wait(), 10)
        assert identifier(ResourceType.TASK, "reported") in seen


class TestGet:
    async def test_resource_type_may_be_anything(self, admin: AdminServiceStub) -> None:
        await admin.CreateTask(task("typed"))
        for kind in (ResourceType.UNSPECIFIED, ResourceType.WORKFLOW):
            assert (await admin.GetTask(get_request("typed", kind=kind))).id == identifier(ResourceType.TASK, "typed")

    async def test_missing_task_is_not_found(self, admin: AdminServiceStub) -> None:
        await refused(
            admin.GetTask(get_request("missing")),
            NOT_FOUND,
            'missing entity of type TASK with identifier project:"flytesnacks" domain:"development" name:"missing"',
        )

    async def test_incomplete_identifier_matches_nothing(self, admin: AdminServiceStub) -> None:
        await refused(admin.GetTask(get_request("typed", version="")), INVALID_ARGUMENT, "missing version")
        await refused(admin.GetTask(ObjectGetRequest()), INVALID_ARGUMENT, "missing id")


@pytest.mark.usefixtures("registered")
class TestLists:
    async def test_pages_of_a_name_are_sorted_by_created_at(self, admin: AdminServiceStub) -> None:
        request = in_staging("name", limit=2, sort_by=Sort(key="created_at", direction=Sort.DESCENDING))
        first = await admin.ListTasks(request)
        assert ([item.id.version for item in first.tasks], first.token) == (["125", "124"], "2")
        request.token = first.token
        second = await admin.ListTasks(request)
        assert [item.id.version for item in second.tasks] == ["123"]
        assert not second.token

    async def test_listed_task_is_the_task(self, admin: AdminServiceStub) -> None:
        listed: Task = (await admin.ListTasks(in_staging("name", filters="eq(version,124)"))).tasks[0]
        assert listed == await admin.GetTask(ObjectGetRequest(id=listed.id))

    @pytest.mark.parametrize(
        ("filters", "count"),
        [
            ("eq(version,123)", 3),
            ("eq(version,123)+ne(name,name)", 2),
            ("value_in(version, 123;124)+contains(name,task)", 4),
            ("eq(task.type,python-task)", 9),
            ("gt(created_at,2020-01-01T00:00:00Z)", 9),
            ("lt(created_at,2020-01-01)", 0),
            ("gt(created_at,2020-01-01T00:00:00+00:00)+eq(version,123)", 3),
            ("eq(state,0)+eq(task.state,0)", 9),
            ("eq(state,1)", 0),
        ],
    )
    async def test_list_is_filtered(self, admin: AdminServiceStub, filters: str, count: int) -> None:
        assert len((await admin.ListTasks(in_staging("", filters=filters))).tasks) == count

    @pytest.mark.parametrize(
        ("listing", "text"),
        [
            (ResourceListRequest(limit=1), "missing id"),
            (ResourceListRequest(id=NamedEntityIdentifier(domain="d"), limit=1), "missing project"),
            (ResourceListRequest(id=NamedEntityIdentifier(project="p"), limit=1), "missing domain"),
            (
                ResourceListRequest(id=NamedEntityIdentifier(project="p", domain="d"), limit=1, token="x"),
                "invalid pagination token x for ListTasks",
            ),
            (
                ResourceListRequest(id=NamedEntityIdentifier(project="p", domain="d"), limit=1, sort_by=Sort()),
                "invalid sort key ''",
            ),
            (
                ResourceListRequest(
                    id=NamedEntityIdentifier(project="p", domain="d"), limit=1, filters="eq(project.name, 123)"
                ),
                "'p' entity is not allowed in filters",
            ),
            (
                ResourceListRequest(id=NamedEntityIdentifier(project="p", domain="d"), limit=1, filters="eq(foo, 123)"),
                "'t.foo' is invalid filter",
            ),
        ],
    )
    async def test_bad_list_is_invalid_argument(
        self, admin: AdminServiceStub, listing: ResourceListRequest, text: str
    ) -> None:
        await refused(admin.ListTasks(listing), INVALID_ARGUMENT, text)

    async def test_names_come_once_each_in_order(self, admin: AdminServiceStub) -> None:
        request = NamedEntityIdentifierListRequest(project=PROJECT, domain="staging", limit=2)
        first = await admin.ListTaskIds(request)
        assert [entity.name for entity in first.entities] == ["name", "secondtask"]
        assert first.entities[0] == NamedEntityIdentifier(project=PROJECT, domain="staging", name="name")
        request.token = first.token
        second = await admin.ListTaskIds(request)
        assert [entity.name for entity in second.entities] == ["thirdtask"]
        assert not second.token

    async def test_names_are_filtered_and_sorted(self, admin: AdminServiceStub) -> None:
        request = NamedEntityIdentifierListRequest(
            project=PROJECT, domain="staging", limit=9, filters="contains(name,task)", sort_by=Sort(key="name")
        )
        response = await admin.ListTaskIds(request)
        assert [entity.name for entity in response.entities] == ["thirdtask", "secondtask"]
        request.sort_by.key = "type"
        await refused(admin.ListTaskIds(request), INVALID_ARGUMENT, "invalid sort key 'type'")


def in_staging(name: str, *, limit: int = 100, filters: str = "", sort_by: Sort | None = None) -> ResourceListRequest:
    named = NamedEntityIdentifier(project=PROJECT, domain="staging", name=name)
    return ResourceListRequest(id=named, limit=limit, filters=filters, sort_by=sort_by)


def requesting(name: str, cpu: str) -> TaskCreateRequest:
    """Return the registration of a task of the domain production that requests so many CPUs."""
    request = task(name)
    request.id.domain = "production"
    request.spec.template.container.resources.requests.add(name=Resources.CPU, value=cpu)
    return request


async def test_task_resource_attributes_replace_the_platforms_limits_at_once(
    admin: AdminServiceStub, projects: AdminServiceStub
) -> None:
    scope = (PROJECT, "production")
    await refused(admin.CreateTask(requesting("large", "3")), INVALID_ARGUMENT, "Requested CPU default [3]")
    generous = TaskResourceAttributes(limits=TaskResourceSpec(cpu="4"))
    await attributes.put(projects, attributes.PROJECT, scope, MatchingAttributes(task_resource_attributes=generous))
    await admin.CreateTask(requesting("large", "3"))
    strict = TaskResourceAttributes(limits=TaskResourceSpec(cpu="1"))
    await attributes.put(
        projects, attributes.PROJECT_DOMAIN, scope, MatchingAttributes(task_resource_attributes=strict)
    )
    await refused(admin.CreateTask(requesting("middling", "2")), INVALID_ARGUMENT, "Requested CPU default [2]")
    await attributes.delete(projects, attributes.PROJECT_DOMAIN, scope, "TASK_RESOURCE")
    await admin.CreateTask(requesting("middling", "2"))
    await attributes.delete(projects, attributes.PROJECT, scope, "TASK_RESOURCE")
    await refused(admin.CreateTask(requesting("larger", "3")), INVALID_ARGUMENT, "Requested CPU default [3]")


async def test_stored_limit_that_cannot_be_read_does_not_lift_the_platforms(
    admin: AdminServiceStub, projects: AdminServiceStub, served_projects: Served
) -> None:
    """Earlier releases, without checks of attributes, may have stored such rows."""
    scope = (PROJECT, "production")
    many = MatchingAttributes(task_resource_attributes=TaskResourceAttributes(limits=TaskResourceSpec(cpu="many")))
    setting = attributes.put(projects, attributes.PROJECT_DOMAIN, scope, many)
    await refused(setting, INVALID_ARGUMENT, "Parsing of task_resource_attributes.limits.cpu failed for value many")
    fine = MatchingAttributes(task_resource_attributes=TaskResourceAttributes(limits=TaskResourceSpec(cpu="3")))
    await attributes.put(projects, attributes.PROJECT_DOMAIN, scope, fine)
    async with await psycopg.AsyncConnection.connect(served_projects.settings.database_url) as connection:
        await connection.execute("UPDATE matchable_attributes SET attributes = %s", (many.SerializeToString(),))
    await refused(admin.CreateTask(requesting("greedy", "3")), INVALID_ARGUMENT, "in the platform configuration [2]")
    await admin.CreateTask(requesting("modest", "2"))
    await attributes.delete(projects, attributes.PROJECT_DOMAIN, scope, "TASK_RESOURCE")
