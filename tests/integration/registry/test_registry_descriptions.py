"""Descriptions of tasks and workflows as clients of the registry see them: over gRPC, on real parts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ObjectGetRequest, Sort
from flyteidl.admin.description_entity_pb2 import (
    Description,
    DescriptionEntity,
    DescriptionEntityListRequest,
    DescriptionFormat,
    SourceCode,
)
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.entities import DOMAIN, INTEGER, PROJECT, identifier, promise, task, task_node, workflow
from tests.support.parts import Parts, Served, service
from tests.support.refusals import refused

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
TASK, WORKFLOW, LAUNCH_PLAN = ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN
VERSIONS = ("v1", "v2", "v3")


@pytest.fixture(scope="module")
async def admin(parts: Parts) -> AsyncIterator[AdminServiceStub]:
    """Run a registry with a task `double` in three versions and a workflow of the same name, all described."""
    objects = f"file://{parts.folder}/registry-descriptions"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service("projects", parts, "registry_descriptions_projects"))
        served: Served = await stack.enter_async_context(
            service("registry", parts, "registry_descriptions", objects_url=objects)
        )
        stub = AdminServiceStub(served.channel)
        for version in VERSIONS:
            await describe(stub, DescriptionEntity(short_description=f"task {version}"), "double", version)
        await describe_workflow(stub, DescriptionEntity(short_description="workflow"), "double")
        yield stub


async def describe(admin: AdminServiceStub, description: DescriptionEntity, name: str, version: str = "v1") -> None:
    """Register a task with this description."""
    request = task(name, {"x": INTEGER}, {"o0": INTEGER}, version)
    request.spec.description.CopyFrom(description)
    await admin.CreateTask(request)


async def describe_workflow(admin: AdminServiceStub, description: DescriptionEntity, name: str) -> None:
    """Register a workflow of the task `double` with this description."""
    nodes = [task_node("n0", "double", promise("x", "", "x"))]
    request = workflow(name, {"x": INTEGER}, {"o0": INTEGER}, nodes, [promise("o0", "n0", "o0")])
    request.spec.description.CopyFrom(description)
    await admin.CreateWorkflow(request)


async def get(admin: AdminServiceStub, name: str, version: str = "v1", kind: ResourceType = TASK) -> DescriptionEntity:
    found: DescriptionEntity = await admin.GetDescriptionEntity(ObjectGetRequest(id=identifier(kind, name, version)))
    return found


async def listed(admin: AdminServiceStub, kind: ResourceType = TASK, name: str = "double", **fields: Any) -> list[str]:
    named = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    request = DescriptionEntityListRequest(**{"resource_type": kind, "id": named, "limit": 100, **fields})
    response = await admin.ListDescriptionEntities(request)
    return [entity.short_description for entity in response.descriptionEntities]


class TestGet:
    @pytest.mark.parametrize(
        "long",
        [
            Description(value="# Doubling\n\n**ünï**", format=DescriptionFormat.DESCRIPTION_FORMAT_MARKDOWN),
            Description(value="x" * 200_000, format=DescriptionFormat.DESCRIPTION_FORMAT_RST, icon_link="http://i/c"),
            Description(uri="s3://bucket/docs.html", format=DescriptionFormat.DESCRIPTION_FORMAT_HTML),
            Description(value=""),
            None,
        ],
        ids=["inline", "large", "by uri", "empty", "none"],
    )
    async def test_description_is_returned_as_it_was_sent(
        self, admin: AdminServiceStub, long: Description | None, request: pytest.FixtureRequest
    ) -> None:
        name = request.node.callspec.id
        sent = DescriptionEntity(
            id=Identifier(name="of no meaning"),
            short_description="doubles ünï\n",
            long_description=long,
            source_code=SourceCode(link="https://git/double.py"),
            tags=["math", "ünï"],
        )
        await describe(admin, sent, name)
        await describe_workflow(admin, sent, name)
        for kind in (TASK, WORKFLOW):
            found = await get(admin, name, kind=kind)
            assert found.id == identifier(kind, name)
            assert found.HasField("long_description")
            assert found.long_description == sent.long_description
            assert (found.short_description, list(found.tags)) == (sent.short_description, list(sent.tags))
            assert found.source_code == sent.source_code

    async def test_empty_description_is_stored(self, admin: AdminServiceStub) -> None:
        await describe(admin, DescriptionEntity(), "with-empty-description")
        found = await get(admin, "with-empty-description")
        assert found.HasField("long_description")
        assert found.HasField("source_code")

    async def test_task_without_description_is_not_found(self, admin: AdminServiceStub) -> None:
        await admin.CreateTask(task("undescribed", {}, {"o0": INTEGER}))
        await refused(get(admin, "undescribed"), NOT_FOUND, "entry not found")

    async def test_description_is_that_of_its_type(self, admin: AdminServiceStub) -> None:
        assert (await get(admin, "double")).short_description == "task v1"
        assert (await get(admin, "double", kind=WORKFLOW)).short_description == "workflow"
        assert (await get(admin, "double", kind=ResourceType.UNSPECIFIED)).short_description == "task v1"
        for kind in (LAUNCH_PLAN, ResourceType.DATASET):
            await refused(get(admin, "double", kind=kind), NOT_FOUND, "entry not found")

    async def test_second_registration_leaves_the_first_description(self, admin: AdminServiceStub) -> None:
        await refused(
            describe(admin, DescriptionEntity(short_description="new"), "double"), ALREADY_EXISTS, "identical"
        )
        assert (await get(admin, "double")).short_description == "task v1"

    async def test_description_that_cannot_be_stored_registers_nothing(self, admin: AdminServiceStub) -> None:
        for field in ("short_description", "source_code"):
            value = SourceCode(link="a\0") if field == "source_code" else "a\0"
            await refused(
                describe(admin, DescriptionEntity(**{field: value}), "unstorable"),  # type: ignore[arg-type]  # one of two fields
                INVALID_ARGUMENT,
                "cannot be stored",
            )
        wanted = ObjectGetRequest(id=identifier(TASK, "unstorable"))
        await refused(admin.GetTask(wanted), NOT_FOUND, "missing entity of type TASK")

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            (None, "invalid value for resource_type"),
            (identifier(TASK, "", "", "", ""), "missing project"),
            (identifier(TASK, "", "", "p", ""), "missing domain"),
            (identifier(TASK, "", "", "p", "d"), "missing name"),
            (identifier(TASK, "n", "", "p", "d"), "missing version"),
            (identifier(TASK, "n\0", "v", "p", "d"), "cannot be stored or compared"),
        ],
    )
    async def test_bad_get_is_refused(self, admin: AdminServiceStub, wanted: Identifier | None, message: str) -> None:
        await refused(admin.GetDescriptionEntity(ObjectGetRequest(id=wanted)), INVALID_ARGUMENT, message)


class TestList:
    async def test_newest_comes_first_page_by_page(self, admin: AdminServiceStub) -> None:
        assert await listed(admin) == ["task v3", "task v2", "task v1"]
        named = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="double")
        request = DescriptionEntityListRequest(resource_type=TASK, id=named, limit=2)
        first = await admin.ListDescriptionEntities(request)
        assert ([found.id.version for found in first.descriptionEntities], first.token) == (["v3", "v2"], "2")
        assert first.descriptionEntities[0] == await get(admin, "double", "v3")
        request.token = first.token
        second = await admin.ListDescriptionEntities(request)
        assert ([found.id.version for found in second.descriptionEntities], second.token) == (["v1"], "")

    async def test_list_is_of_its_type_and_name(self, admin: AdminServiceStub) -> None:
        assert await listed(admin, WORKFLOW) == ["workflow"]
        assert await listed(admin, LAUNCH_PLAN) == []
        assert await listed(admin, ResourceType.DATASET) == []
        assert set(await listed(admin, ResourceType.UNSPECIFIED)) == {"workflow", "task v1", "task v2", "task v3"}
        everything = await listed(admin, WORKFLOW, "")
        assert "workflow" in everything
        assert not {"task v1", "task v2", "task v3"} & set(everything)

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ("eq(version,v2)", ["task v2"]),
            ("value_in(task.version,v1;v3)", ["task v3", "task v1"]),
            ("contains(short_description,3)", ["task v3"]),
            ("gt(created_at,2020-01-01)+ne(version,v3)", ["task v2", "task v1"]),
        ],
    )
    async def test_list_is_filtered(self, admin: AdminServiceStub, filters: str, expected: list[str]) -> None:
        assert await listed(admin, filters=filters) == expected

    @pytest.mark.parametrize(
        "key", ["created_at", "updated_at", "id", "version", "short_description", "long_description", "link", "name"]
    )
    async def test_descriptions_are_sorted_by_their_own_columns(self, admin: AdminServiceStub, key: str) -> None:
        ascending = await listed(admin, sort_by=Sort(key=key, direction=Sort.ASCENDING))
        assert ascending == ["task v1", "task v2", "task v3"]
        assert await listed(admin, sort_by=Sort(key=key)) == ascending[::-1]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"id": None, "limit": 0}, "missing id"),
            ({"id": NamedEntityIdentifier(domain="d")}, "missing project"),
            ({"id": NamedEntityIdentifier(project="p"), "limit": 0}, "missing domain"),
            ({"filters": "x", "sort_by": Sort()}, "invalid value for filters"),
            ({"filters": "eq(digest,x)"}, "'t.digest' is invalid filter"),
            ({"filters": "eq(type,x)"}, "'t.type' is invalid filter"),
            ({"filters": "eq(link,x)"}, "'t.link' is invalid filter"),
            ({"filters": "eq(short_description,x)", "resource_type": LAUNCH_PLAN}, "'l.short_description' is invalid"),
            ({"filters": "eq(workflow.name,x)", "resource_type": LAUNCH_PLAN}, "'w' entity is not allowed in filters"),
            ({"filters": "eq(name,x)", "resource_type": ResourceType.DATASET}, "unsupported entity ''"),
            ({"filters": "eq(name,x)", "resource_type": ResourceType.UNSPECIFIED}, "unsupported entity ''"),
            ({"sort_by": Sort(key="type"), "token": "x"}, "invalid sort key 'type'"),
            ({"token": "x"}, "invalid pagination token x for ListWorkflows"),
        ],
    )
    async def test_bad_list_is_refused(self, admin: AdminServiceStub, fields: dict[str, Any], message: str) -> None:
        await refused(listed(admin, **fields), INVALID_ARGUMENT, message)
