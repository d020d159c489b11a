"""Names as clients of the registry see them over gRPC: their metadata and lists of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc
import pytest
from flyteidl.admin.common_pb2 import (
    NamedEntity,
    NamedEntityGetRequest,
    NamedEntityIdentifier,
    NamedEntityIdentifierListRequest,
    NamedEntityListRequest,
    NamedEntityMetadata,
    NamedEntityState,
    NamedEntityUpdateRequest,
    ObjectGetRequest,
    ResourceListRequest,
    Sort,
)
from flyteidl.admin.launch_plan_pb2 import LaunchPlanState, LaunchPlanUpdateRequest
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.registry import GET_TASK_LAUNCH_PLAN
from services.kit.messaging.bus import Bus
from tests.support.entities import (
    DOMAIN,
    INTEGER,
    PROJECT,
    identifier,
    integer,
    launch_plan,
    literals,
    promise,
    task,
    task_node,
    workflow,
)
from tests.support.parts import Parts, Served, service
from tests.support.refusals import refused

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
TASK, WORKFLOW, LAUNCH_PLAN = ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN
ACTIVE, ARCHIVED = NamedEntityState.NAMED_ENTITY_ACTIVE, NamedEntityState.NAMED_ENTITY_ARCHIVED
GENERATED = NamedEntityState.SYSTEM_GENERATED
TASKS = {"alpha": ("v1", "v2"), "beta": ("v1",), "gamma": ("v1", "v2", "v3"), "Zeta": ("v3",), "ünï/code %_": ("v1",)}


@pytest.fixture(scope="module")
async def served(parts: Parts) -> AsyncIterator[Served]:
    objects = f"file://{parts.folder}/registry-names"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service("projects", parts, "registry_names_projects"))
        yield await stack.enter_async_context(service("registry", parts, "registry_names", objects_url=objects))


@pytest.fixture(scope="module")
async def admin(served: Served) -> AdminServiceStub:
    """Return a registry with tasks of several names and versions, and a workflow with two launch plans."""
    stub = AdminServiceStub(served.channel)
    for name, versions in TASKS.items():
        for version in versions:
            await stub.CreateTask(task(name, {"x": INTEGER}, {"o0": INTEGER}, version))
    for version in ("v1", "v2"):
        nodes = [task_node("n0", "alpha", promise("x", "", "x"))]
        outputs = [promise("o0", "n0", "o0")]
        await stub.CreateWorkflow(workflow("work", {"x": INTEGER}, {"o0": INTEGER}, nodes, outputs, version=version))
    await stub.CreateLaunchPlan(launch_plan("plan", "work", {"x": (INTEGER, integer(3))}))
    await stub.CreateLaunchPlan(launch_plan("plan", "work", {}, literals(x=4), "v2"))
    await stub.CreateLaunchPlan(launch_plan("other-plan", "work", {}, literals(x=4), "v2"))
    await stub.UpdateLaunchPlan(
        LaunchPlanUpdateRequest(id=identifier(LAUNCH_PLAN, "plan", "v2"), state=LaunchPlanState.ACTIVE)
    )
    return stub


def named(name: str, **fields: str) -> NamedEntityIdentifier:
    return NamedEntityIdentifier(**{"project": PROJECT, "domain": DOMAIN, "name": name, **fields})


async def get(admin: AdminServiceStub, name: str, kind: ResourceType = TASK) -> NamedEntity:
    entity: NamedEntity = await admin.GetNamedEntity(NamedEntityGetRequest(resource_type=kind, id=named(name)))
    return entity


async def update(admin: AdminServiceStub, name: str, kind: ResourceType = TASK, **metadata: Any) -> None:
    await admin.UpdateNamedEntity(
        NamedEntityUpdateRequest(resource_type=kind, id=named(name), metadata=NamedEntityMetadata(**metadata))
    )


async def listed(admin: AdminServiceStub, kind: ResourceType = TASK, **fields: Any) -> list[str]:
    request = NamedEntityListRequest(resource_type=kind, project=PROJECT, domain=DOMAIN, **{"limit": 100, **fields})
    return [entity.id.name for entity in (await admin.ListNamedEntities(request)).entities]


async def ids(admin: AdminServiceStub, rpc: str = "ListTaskIds", **fields: Any) -> list[str]:
    request = NamedEntityIdentifierListRequest(project=PROJECT, domain=DOMAIN, **{"limit": 100, **fields})
    return [entity.name for entity in (await getattr(admin, rpc)(request)).entities]


class TestGet:
    @pytest.mark.parametrize(("kind", "name"), [(TASK, "alpha"), (WORKFLOW, "work"), (LAUNCH_PLAN, "plan")])
    async def test_name_is_active_and_undescribed_at_first(
        self, admin: AdminServiceStub, kind: ResourceType, name: str
    ) -> None:
        found = await get(admin, name, kind)
        assert found == NamedEntity(resource_type=kind, id=named(name), metadata=NamedEntityMetadata())
        assert found.HasField("metadata")

    async def test_name_without_a_version_of_the_type_is_not_found(self, admin: AdminServiceStub) -> None:
        for kind, name in ((TASK, "nothing"), (TASK, "work"), (LAUNCH_PLAN, "work")):
            await refused(get(admin, name, kind), NOT_FOUND, "entry not found")

    async def test_name_that_postgresql_cannot_store_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        await refused(get(admin, "a\0b"), INVALID_ARGUMENT)
        await refused(get(admin, "x" * 100_000), NOT_FOUND, "entry not found")


class TestUpdate:
    async def test_archived_name_leaves_one_list_and_enters_the_other(self, admin: AdminServiceStub) -> None:
        for prefix in ("", "entities.", "named_entity_metadata."):
            active, archived = f"eq({prefix}state, 0)", f"eq({prefix}state, 1)"
            await update(admin, "beta", state=ARCHIVED)
            assert (await get(admin, "beta")).metadata.state == ARCHIVED
            assert "beta" not in await listed(admin, filters=active)
            assert await listed(admin, filters=archived) == ["beta"]
            await update(admin, "beta", state=ACTIVE)
            assert "beta" in await listed(admin, filters=active)
            assert await listed(admin, filters=archived) == []

    async def test_empty_description_keeps_the_old_one_while_the_state_is_always_set(
        self, admin: AdminServiceStub
    ) -> None:
        await update(admin, "gamma", state=ARCHIVED, description="the third")
        await update(admin, "gamma", state=ARCHIVED)
        assert (await get(admin, "gamma")).metadata == NamedEntityMetadata(state=ARCHIVED, description="the third")
        # flytectl sends only the field that changes.
        await update(admin, "gamma", description="dritter")
        assert (await get(admin, "gamma")).metadata == NamedEntityMetadata(state=ACTIVE, description="dritter")

    async def test_description_that_was_never_set_is_found_by_no_filter(self, admin: AdminServiceStub) -> None:
        assert "Zeta" not in await listed(admin, filters="ne(description,x)")
        await update(admin, "Zeta")
        assert "Zeta" in await listed(admin, filters="ne(description,x)")
        await update(admin, "Zeta", description="ö" * 300)
        assert await listed(admin, filters="contains(named_entity_metadata.description,öö)") == ["Zeta"]

    async def test_types_have_names_of_their_own(self, admin: AdminServiceStub) -> None:
        await admin.CreateTask(task("work", {}, {"o0": INTEGER}))
        await update(admin, "work", WORKFLOW, state=ARCHIVED)
        assert (await get(admin, "work")).metadata.state == ACTIVE
        await update(admin, "work", WORKFLOW)

    async def test_new_version_leaves_the_name_as_it_is(self, admin: AdminServiceStub) -> None:
        await admin.CreateTask(task("unchanged", {}, {"o0": INTEGER}))
        await update(admin, "unchanged", state=ARCHIVED, description="first")
        await admin.CreateTask(task("unchanged", {}, {"o0": INTEGER}, "v2"))
        assert (await get(admin, "unchanged")).metadata == NamedEntityMetadata(state=ARCHIVED, description="first")

    async def test_concurrent_updates_of_a_name_are_atomic(self, admin: AdminServiceStub) -> None:
        await admin.CreateTask(task("raced", {}, {"o0": INTEGER}))
        changes = [NamedEntityMetadata(state=i % 3, description=f"number {i}") for i in range(1, 25)]  # type: ignore[arg-type]  # numbers of states
        await asyncio.gather(
            *(update(admin, "raced", state=change.state, description=change.description) for change in changes)
        )
        assert (await get(admin, "raced")).metadata in changes

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"metadata": None, "resource_type": ResourceType.DATASET}, "missing metadata"),
            (
                {"metadata": NamedEntityMetadata(state=ARCHIVED), "resource_type": ResourceType.DATASET},
                "Resource [DATASET] cannot have its state updated",
            ),
            ({"metadata": NamedEntityMetadata(description="x" * 301)}, "cannot exceed 300"),
            ({"metadata": NamedEntityMetadata(description="a\0b")}, "cannot be stored"),
        ],
    )
    async def test_bad_metadata_is_refused_and_changes_nothing(
        self, admin: AdminServiceStub, fields: dict[str, Any], message: str
    ) -> None:
        before = await get(admin, "alpha")
        request = NamedEntityUpdateRequest(**{"resource_type": TASK, "id": named("alpha"), **fields})
        await refused(admin.UpdateNamedEntity(request), INVALID_ARGUMENT, message)
        assert await get(admin, "alpha") == before

    @pytest.mark.parametrize(
        ("fields", "code", "message"),
        [
            ({"resource_type": 0, "id": None}, INVALID_ARGUMENT, "invalid value for resource_type"),
            ({"id": None}, INVALID_ARGUMENT, "missing id"),
            ({"id": NamedEntityIdentifier()}, INVALID_ARGUMENT, "missing project"),
            ({"id": named("", domain="")}, INVALID_ARGUMENT, "missing domain"),
            ({"id": named("")}, INVALID_ARGUMENT, "missing name"),
            (
                {"resource_type": ResourceType.DATASET},
                INVALID_ARGUMENT,
                "Cannot get NamedEntityMetadata for resource type: DATASET",
            ),
            ({"id": named("nothing")}, NOT_FOUND, "entry not found"),
        ],
    )
    async def test_bad_name_is_read_and_updated_alike(
        self, admin: AdminServiceStub, fields: dict[str, Any], code: grpc.StatusCode, message: str
    ) -> None:
        whole = {"resource_type": TASK, "id": named("alpha"), **fields}
        await refused(admin.GetNamedEntity(NamedEntityGetRequest(**whole)), code, message)
        change = NamedEntityMetadata(description="new")
        await refused(admin.UpdateNamedEntity(NamedEntityUpdateRequest(metadata=change, **whole)), code, message)


class TestLists:
    async def test_names_come_in_order_and_page_by_page(self, admin: AdminServiceStub) -> None:
        every = [name for name in await listed(admin) if name in TASKS]
        assert every == sorted(TASKS)
        request = NamedEntityListRequest(
            resource_type=TASK, project=PROJECT, domain=DOMAIN, limit=2, filters="contains(name,a)"
        )
        pages = []
        while True:
            page = await admin.ListNamedEntities(request)
            pages.append([entity.id.name for entity in page.entities])
            if not page.token:
                break
            request.token = page.token
        # Filters apply before paging: no page but the last is short.
        assert [len(names) for names in pages[:-1]] == [2] * (len(pages) - 1)
        assert [name for names in pages for name in names] == await listed(admin, filters="contains(name,a)")

    @pytest.mark.parametrize("key", ["name", "project", "domain"])
    async def test_names_are_sorted_by_project_domain_and_name(self, admin: AdminServiceStub, key: str) -> None:
        ascending = await listed(admin, sort_by=Sort(key=key, direction=Sort.ASCENDING))
        descending = await listed(admin, sort_by=Sort(key=key, direction=Sort.DESCENDING))
        assert ascending == descending[::-1]
        assert set(ascending) == set(await listed(admin))
        if key == "name":
            assert ascending == sorted(ascending)

    @pytest.mark.parametrize("rpc", ["ListTaskIds", "ListNamedEntities"])
    async def test_names_are_sorted_by_the_time_of_their_first_version(self, admin: AdminServiceStub, rpc: str) -> None:
        page = partial(listed if rpc == "ListNamedEntities" else ids, admin, filters="value_in(name,Zeta;alpha;gamma)")
        oldest_first = Sort(key="created_at", direction=Sort.ASCENDING)
        assert await page(sort_by=oldest_first) == ["alpha", "gamma", "Zeta"]
        assert await page(sort_by=oldest_first, limit=1, token="1") == ["gamma"]
        assert await page(sort_by=Sort(key="created_at")) == ["Zeta", "gamma", "alpha"]

    @pytest.mark.parametrize(
        ("kind", "rpc", "items", "name", "versions"),
        [(TASK, "ListTasks", "tasks", "gamma", 3), (WORKFLOW, "ListWorkflows", "workflows", "work", 2)],
    )
    async def test_versions_are_found_by_the_state_of_their_name(
        self, admin: AdminServiceStub, *, kind: ResourceType, rpc: str, items: str, name: str, versions: int
    ) -> None:
        async def found(filters: str, **fields: Any) -> list[str]:
            # Other tests archive names, too.
            request = ResourceListRequest(id=named(""), filters=f"contains(name,{name[1:]})+{filters}", **fields)
            return [version.id.name for version in getattr(await getattr(admin, rpc)(request), items)]

        await update(admin, name, kind, state=ARCHIVED)
        assert await found("eq(state,1)") == [name] * versions
        assert await found("eq(state,1)", limit=1, token="1", sort_by=Sort(key="version")) == [name]
        assert await found(f"value_in({rpc[4:-1].lower()}.state,1;2)+ne(version,v1)") == [name] * (versions - 1)
        assert name not in await found("eq(state,0)")
        await update(admin, name, kind)
        assert await found("eq(state,1)") == []
        assert name in await found("eq(state,0)")
        await refused(found("eq(state,ARCHIVED)"), INVALID_ARGUMENT, "'ARCHIVED' is not a value of state")
        await refused(found("eq(state,1)", sort_by=Sort(key="state")), INVALID_ARGUMENT, "invalid sort key 'state'")

    async def test_generated_names_are_hidden_until_there_are_filters(self, admin: AdminServiceStub, bus: Bus) -> None:
        await bus.request(GET_TASK_LAUNCH_PLAN, ObjectGetRequest(id=identifier(TASK, "alpha")))
        for kind, real in ((WORKFLOW, ["work"]), (LAUNCH_PLAN, ["other-plan", "plan"])):
            assert await listed(admin, kind) == real
            assert await listed(admin, kind, filters="eq(state,0)") == real
            assert await listed(admin, kind, filters="eq(state,2)") == [".flytegen.alpha"]
            assert await listed(admin, kind, filters=f"eq(resource_type,{kind})") == [".flytegen.alpha", *real]
        assert await ids(admin, "ListWorkflowIds") == [".flytegen.alpha", "work"]
        assert (await get(admin, ".flytegen.alpha", WORKFLOW)).metadata.state == GENERATED

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"project": "", "domain": "", "resource_type": 0, "limit": 0}, "missing project"),
            ({"domain": "", "resource_type": 0, "limit": 0}, "missing domain"),
            ({"resource_type": 0, "limit": 0}, "invalid value for resource_type"),
            ({"filters": "x", "sort_by": Sort()}, "invalid value for filters"),
            ({"filters": "eq(version,v1)"}, "'nen.version' is invalid filter"),
            ({"filters": "eq(named_entity_metadata.version,v1)"}, "'nem.version' is invalid filter"),
            ({"filters": "eq(task.name,x)"}, "'t' entity is not allowed in filters"),
            ({"filters": "eq(state,ARCHIVED)"}, "'ARCHIVED' is not a value of state"),
            ({"sort_by": Sort(), "token": "x"}, "invalid sort key ''"),
            ({"sort_by": Sort(key="state")}, "invalid sort key 'state'"),
            ({"sort_by": Sort(key="name", direction=7)}, "invalid sort order specified"),  # type: ignore[arg-type]  # from a newer client
            ({"token": "x"}, "invalid pagination token x for ListNamedEntities"),
            ({"token": "-1", "resource_type": ResourceType.DATASET}, "invalid pagination token"),
            ({"resource_type": ResourceType.DATASET}, "Cannot list entity names for resource type: DATASET"),
        ],
    )
    async def test_bad_list_is_refused(self, admin: AdminServiceStub, fields: dict[str, Any], message: str) -> None:
        whole = {"resource_type": TASK, "project": PROJECT, "domain": DOMAIN, "limit": 10}
        await refused(admin.ListNamedEntities(NamedEntityListRequest(**{**whole, **fields})), INVALID_ARGUMENT, message)

    async def test_largest_limit_and_token_are_accepted(self, admin: AdminServiceStub) -> None:
        assert await listed(admin, limit=2**32 - 1) == await listed(admin)
        assert await listed(admin, limit=2**32 - 1, token=str(2**63 - 1)) == []

    async def test_project_without_names_has_an_empty_list(self, admin: AdminServiceStub) -> None:
        request = NamedEntityListRequest(resource_type=TASK, project="nowhere", domain=DOMAIN, limit=1)
        response = await admin.ListNamedEntities(request)
        assert (list(response.entities), response.token) == ([], "")


class TestIds:
    @pytest.mark.parametrize(
        ("filters", "names"),
        [
            ("eq(version,v3)", ["Zeta", "gamma"]),
            # Some version is not v1; not: no version is v1.
            ("ne(version,v1)", ["Zeta", "alpha", "gamma"]),
            # One version must meet both.
            ("gt(version,v1)+lt(version,v3)", ["alpha", "gamma"]),
            ("eq(version,v1)+eq(version,v2)", []),
            ("eq(name,alpha)+eq(version,v2)", ["alpha"]),
            ("eq(task.name,alpha)+eq(named_entity_metadata.state,0)", ["alpha"]),
            ("contains(name,ï/code %)", ["ünï/code %_"]),
            ("eq(type,python-task)+value_in(name,beta;gamma)", ["beta", "gamma"]),
        ],
    )
    async def test_names_are_found_by_their_versions(
        self, admin: AdminServiceStub, filters: str, names: list[str]
    ) -> None:
        assert [name for name in await ids(admin, filters=filters) if name in TASKS] == names

    @pytest.mark.parametrize(
        ("filters", "names"),
        [
            ("eq(workflow.version,v1)", ["plan"]),
            ("eq(workflow.name,work)+eq(state,0)", ["other-plan", "plan"]),
            ("eq(state,1)+eq(workflow.version,v2)", ["plan"]),
            ("eq(state,1)+eq(workflow.version,v1)", []),
            ("eq(launch_plan.schedule_type,NONE)+eq(workflow.name,work)", ["other-plan", "plan"]),
        ],
    )
    async def test_launch_plan_names_are_found_by_their_workflows(
        self, admin: AdminServiceStub, filters: str, names: list[str]
    ) -> None:
        found = await ids(admin, "ListLaunchPlanIds", filters=filters)
        assert [name for name in found if not name.startswith(".flytegen.")] == names

    @pytest.mark.parametrize("field", ["named_entity_metadata.state", "state", "workflow.state"])
    async def test_ids_are_filtered_by_the_state_of_names(self, admin: AdminServiceStub, field: str) -> None:
        await update(admin, "work", WORKFLOW, state=ARCHIVED)
        assert await ids(admin, "ListWorkflowIds", filters=f"eq({field},1)") == ["work"]
        assert "work" not in await ids(admin, "ListWorkflowIds", filters=f"eq({field},0)")
        assert "work" in await ids(admin, "ListWorkflowIds")
        await update(admin, "work", WORKFLOW)
        assert await ids(admin, "ListWorkflowIds", filters=f"eq({field},1)") == []

    @pytest.mark.parametrize(
        ("rpc", "fields", "message"),
        [
            ("ListTaskIds", {"project": "", "limit": 0}, "missing project"),
            ("ListTaskIds", {"domain": "", "limit": 0}, "missing domain"),
            ("ListTaskIds", {"filters": "eq(foo,x)"}, "'t.foo' is invalid filter"),
            ("ListTaskIds", {"filters": "eq(workflow.name,x)"}, "'w' entity is not allowed in filters"),
            ("ListTaskIds", {"sort_by": Sort(key="updated_at")}, "invalid sort key 'updated_at'"),
            ("ListTaskIds", {"token": "x"}, "invalid pagination token x for ListUniqueTaskIdentifiers"),
            ("ListWorkflowIds", {"token": "x"}, "invalid pagination token x for ListWorkflowIdentifiers"),
            (
                "ListLaunchPlanIds",
                {"token": "x", "limit": 0, "project": "", "domain": ""},
                "invalid pagination token x",
            ),
            ("ListLaunchPlanIds", {"limit": 0, "project": "", "domain": ""}, "invalid parameters: filters"),
        ],
    )
    async def test_bad_list_of_ids_is_refused(
        self, admin: AdminServiceStub, rpc: str, fields: dict[str, Any], message: str
    ) -> None:
        request = NamedEntityIdentifierListRequest(**{"project": PROJECT, "domain": DOMAIN, "limit": 9, **fields})
        await refused(_call(admin, rpc, request), INVALID_ARGUMENT, message)


def _call(admin: AdminServiceStub, rpc: str, request: NamedEntityIdentifierListRequest) -> Awaitable[object]:
    called: Awaitable[object] = getattr(admin, rpc)(request)
    return called
