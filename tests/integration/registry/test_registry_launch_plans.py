"""Launch plans as clients of the registry see them: over gRPC, with the real projects service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

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
from flyteidl.admin.launch_plan_pb2 import (
    ActiveLaunchPlanListRequest,
    ActiveLaunchPlanRequest,
    LaunchPlan,
    LaunchPlanCreateRequest,
    LaunchPlanState,
    LaunchPlanUpdateRequest,
)
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.registry import GET_LAUNCH_PLAN, LAUNCH_PLAN_ACTIVATED, LAUNCH_PLAN_DEACTIVATED
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery
from tests.support.entities import (
    DOMAIN,
    INTEGER,
    PROJECT,
    identifier,
    integer,
    literals,
    promise,
    task,
    task_node,
    workflow,
)
from tests.support.entities import launch_plan as launch_plan_of
from tests.support.parts import Parts, Served, service
from tests.support.refusals import code_of, refused
from tests.support.waiting import until

OK = grpc.StatusCode.OK
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ACTIVE, INACTIVE = LaunchPlanState.ACTIVE, LaunchPlanState.INACTIVE
VERSIONS = ("v1", "v2", "v3")


@pytest.fixture(scope="module")
async def served(parts: Parts) -> AsyncIterator[Served]:
    objects = f"file://{parts.folder}/registry-launch-plans"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service("projects", parts, "registry_launch_plans_projects"))
        yield await stack.enter_async_context(service("registry", parts, "registry_launch_plans", objects_url=objects))


@pytest.fixture(scope="module")
async def admin(served: Served) -> AdminServiceStub:
    """Return a registry with a workflow `work` in three versions, whose two inputs are integers."""
    stub = AdminServiceStub(served.channel)
    await stub.CreateTask(task("double", {"x": INTEGER}, {"o0": INTEGER}))
    for version in VERSIONS:
        node = task_node("n0", "double", promise("x", "", "x"))
        outputs = [promise("o0", "n0", "o0")]
        await stub.CreateWorkflow(
            workflow("work", {"x": INTEGER, "y": INTEGER}, {"o0": INTEGER}, [node], outputs, version=version)
        )
    return stub


def launch_plan(name: str, version: str = "v1", cron: str = "") -> LaunchPlanCreateRequest:
    """Return the registration of a launch plan of `work` with a default and a fixed input."""
    request = launch_plan_of(name, "work", {"x": (INTEGER, integer(3))}, literals(y=4), version)
    if cron:
        request.spec.entity_metadata.schedule.cron_schedule.schedule = cron
    return request


def get_request(name: str, version: str = "v1", kind: ResourceType = ResourceType.LAUNCH_PLAN) -> ObjectGetRequest:
    return ObjectGetRequest(id=identifier(kind, name, version))


async def set_state(admin: AdminServiceStub, name: str, version: str, state: LaunchPlanState) -> None:
    # flytectl leaves the type out.
    identity = identifier(ResourceType.UNSPECIFIED, name, version)
    await admin.UpdateLaunchPlan(LaunchPlanUpdateRequest(id=identity, state=state))


async def active(admin: AdminServiceStub, name: str) -> LaunchPlan:
    named = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    plan: LaunchPlan = await admin.GetActiveLaunchPlan(ActiveLaunchPlanRequest(id=named))
    return plan


async def listed(admin: AdminServiceStub, name: str = "", **fields: object) -> list[tuple[str, str]]:
    named = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    response = await admin.ListLaunchPlans(ResourceListRequest(id=named, limit=100, **fields))  # type: ignore[arg-type]  # fields of one message, mixed
    return [(plan.id.name, plan.id.version) for plan in response.launch_plans]


def schedules(served: Served, name: str) -> dict[str, tuple[str, bool]]:
    """Return cron expression and activity of every schedule row of a name, by version."""
    with psycopg.connect(served.settings.database_url) as connection:
        rows = connection.execute(
            "SELECT version, cron_expression, active FROM schedulable_entities WHERE name = %s", (name,)
        )
        return {version: (cron, is_active) for version, cron, is_active in rows}


class TestCreate:
    async def test_registered_plan_is_inactive_and_has_its_free_inputs(self, admin: AdminServiceStub) -> None:
        request = launch_plan("whole")
        await admin.CreateLaunchPlan(request)
        found = await admin.GetLaunchPlan(get_request("whole"))
        assert found.id == request.id
        assert found.closure.state == INACTIVE
        assert set(found.closure.expected_inputs.parameters) == {"x"}
        assert found.closure.expected_inputs.parameters["x"].default == integer(3)
        assert set(found.closure.expected_outputs.variables) == {"o0"}
        assert found.spec.default_inputs == found.closure.expected_inputs
        assert found.spec.fixed_inputs == literals(y=4)
        assert found.closure.created_at == found.closure.updated_at
        assert found.closure.HasField("created_at")

    async def test_same_plan_again_is_already_exists_whatever_its_state(self, admin: AdminServiceStub) -> None:
        await admin.CreateLaunchPlan(launch_plan("same"))
        await set_state(admin, "same", "v1", ACTIVE)
        error = await refused(
            admin.CreateLaunchPlan(launch_plan("same")),
            ALREADY_EXISTS,
            "launch plan with identical structure already exists",
        )
        assert "grpc-status-details-bin" not in str(error.trailing_metadata())

    async def test_another_structure_is_invalid_argument_with_a_diff(self, admin: AdminServiceStub) -> None:
        await admin.CreateLaunchPlan(launch_plan("changed"))
        changed = launch_plan("changed")
        changed.spec.fixed_inputs.literals["y"].CopyFrom(integer(5))
        error = await refused(
            admin.CreateLaunchPlan(changed),
            INVALID_ARGUMENT,
            "changed launch plan with different structure already exists. "
            "(Please register a new version of the launch plan):\n/spec/fixedInputs/literals/y/scalar/primitive/",
        )
        assert "closure" not in (error.details() or "")

    async def test_concurrent_registrations_succeed_once(self, admin: AdminServiceStub) -> None:
        codes = await asyncio.gather(*(code_of(admin.CreateLaunchPlan(launch_plan("raced"))) for _ in range(6)))
        assert sorted(codes, key=lambda code: code.name) == [ALREADY_EXISTS] * 5 + [OK]

    async def test_workflow_is_checked_before_the_id_of_the_plan(self, admin: AdminServiceStub) -> None:
        await refused(admin.CreateLaunchPlan(LaunchPlanCreateRequest()), INVALID_ARGUMENT, "missing id")
        request = launch_plan("ordered")
        request.ClearField("id")
        request.spec.workflow_id.name = "nothing"
        await refused(admin.CreateLaunchPlan(request), NOT_FOUND, "missing entity of type WORKFLOW with identifier")
        request.spec.workflow_id.name = "work"
        await refused(admin.CreateLaunchPlan(request), INVALID_ARGUMENT, "missing id")
        request.id.CopyFrom(identifier(ResourceType.LAUNCH_PLAN, "ordered", project="nowhere"))
        await refused(admin.CreateLaunchPlan(request), INVALID_ARGUMENT, "project [nowhere]")

    async def test_invalid_schedule_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        await refused(
            admin.CreateLaunchPlan(launch_plan("hourly", cron="hourly")), INVALID_ARGUMENT, "Invalid cron expression: "
        )


class TestState:
    async def test_activating_a_version_deactivates_the_other(self, admin: AdminServiceStub) -> None:
        for version in VERSIONS:
            await admin.CreateLaunchPlan(launch_plan("flip", version))
        await set_state(admin, "flip", "v1", ACTIVE)
        await set_state(admin, "flip", "v1", ACTIVE)
        assert (await active(admin, "flip")).id.version == "v1"
        await set_state(admin, "flip", "v2", ACTIVE)
        found = await active(admin, "flip")
        assert found.id.version == "v2"
        assert found == await admin.GetLaunchPlan(get_request("flip", "v2"))
        first = await admin.GetLaunchPlan(get_request("flip", "v1"))
        assert first.closure.state == INACTIVE
        assert first.closure.updated_at.ToDatetime() > first.closure.created_at.ToDatetime()
        await set_state(admin, "flip", "v1", INACTIVE)
        assert (await active(admin, "flip")).id.version == "v2"
        await set_state(admin, "flip", "v2", INACTIVE)
        await refused(
            active(admin, "flip"), NOT_FOUND, f"No active launch plan could be found: {PROJECT}:{DOMAIN}:flip"
        )

    async def test_concurrent_activations_leave_one_active_version(self, admin: AdminServiceStub) -> None:
        for version in VERSIONS:
            await admin.CreateLaunchPlan(launch_plan("contested", version, cron="0 19 * * *"))
        await asyncio.gather(*(set_state(admin, "contested", version, ACTIVE) for version in VERSIONS * 4))
        assert len(await listed(admin, "contested", filters="eq(state,1)")) == 1

    async def test_schedule_follows_the_active_version(self, admin: AdminServiceStub, served: Served) -> None:
        await admin.CreateLaunchPlan(launch_plan("daily", "v1", cron="0 19 * * *"))
        await admin.CreateLaunchPlan(launch_plan("daily", "v2"))
        old = launch_plan("daily", "v3")
        old.spec.entity_metadata.schedule.cron_expression = "@daily"
        await admin.CreateLaunchPlan(old)
        assert not schedules(served, "daily")
        await set_state(admin, "daily", "v1", ACTIVE)
        assert schedules(served, "daily") == {"v1": ("0 19 * * *", True)}
        await set_state(admin, "daily", "v2", ACTIVE)
        assert schedules(served, "daily") == {"v1": ("0 19 * * *", False)}
        await set_state(admin, "daily", "v3", ACTIVE)
        assert schedules(served, "daily") == {"v1": ("0 19 * * *", False), "v3": ("@daily", True)}
        await set_state(admin, "daily", "v1", ACTIVE)
        await set_state(admin, "daily", "v1", INACTIVE)
        assert schedules(served, "daily") == {"v1": ("0 19 * * *", False), "v3": ("@daily", False)}

    async def test_update_launch_plan_with_a_bad_request_is_refused(self, admin: AdminServiceStub) -> None:
        await refused(set_state(admin, "missing", "v1", ACTIVE), NOT_FOUND, "missing entity of type LAUNCH_PLAN")
        await refused(set_state(admin, "missing", "v1", INACTIVE), NOT_FOUND, "missing entity of type LAUNCH_PLAN")
        await refused(set_state(admin, "missing", "", ACTIVE), INVALID_ARGUMENT, "missing version")
        await refused(set_state(admin, "missing", "", INACTIVE), INVALID_ARGUMENT, "missing version")
        request = LaunchPlanUpdateRequest(id=identifier(ResourceType.LAUNCH_PLAN, "missing"), state=7)  # type: ignore[arg-type]  # a number from a newer client
        await refused(admin.UpdateLaunchPlan(request), INVALID_ARGUMENT, "Unrecognized launch plan state 7 for update")

    async def test_changes_are_announced_in_order(self, admin: AdminServiceStub, bus: Bus) -> None:
        seen: list[tuple[str, str]] = []

        async def receive(delivery: Delivery) -> None:
            identity = Identifier.FromString(delivery.payload)
            if identity.name == "reported":
                seen.append((delivery.subject, identity.version))

        for version in ("v1", "v2"):
            await admin.CreateLaunchPlan(launch_plan("reported", version))
            await set_state(admin, "reported", version, ACTIVE)
        await set_state(admin, "reported", "v2", INACTIVE)
        await bus.consume(
            announcements_of("registry"), "flyte.registry.launch_plan.*", "test-registry-launch-plans", receive
        )
        await until(lambda: len(seen) >= 6)
        changes = [change for change in seen if not change[0].endswith(".registered")]
        on, off = LAUNCH_PLAN_ACTIVATED.subject, LAUNCH_PLAN_DEACTIVATED.subject
        assert changes == [(on, "v1"), (off, "v1"), (on, "v2"), (off, "v2")]


class TestReads:
    async def test_launch_plan_type_is_implied(self, admin: AdminServiceStub, bus: Bus) -> None:
        await admin.CreateLaunchPlan(launch_plan("typed"))
        found = await admin.GetLaunchPlan(get_request("typed", kind=ResourceType.UNSPECIFIED))
        assert found.id == identifier(ResourceType.LAUNCH_PLAN, "typed")
        assert await bus.request(GET_LAUNCH_PLAN, get_request("typed")) == found
        await refused(
            admin.GetLaunchPlan(get_request("typed", kind=ResourceType.TASK)),
            INVALID_ARGUMENT,
            "unexpected resource type",
        )
        await refused(admin.GetLaunchPlan(get_request("missing")), NOT_FOUND, "missing entity of type LAUNCH_PLAN")

    async def test_active_plan_needs_a_whole_name(self, admin: AdminServiceStub) -> None:
        await refused(admin.GetActiveLaunchPlan(ActiveLaunchPlanRequest()), INVALID_ARGUMENT, "missing project")
        await refused(active(admin, ""), INVALID_ARGUMENT, "missing name")

    async def test_filters_reach_the_plan_and_its_workflow(self, admin: AdminServiceStub) -> None:
        for version in VERSIONS:
            cron = "0 19 * * *" if version == "v2" else ""
            await admin.CreateLaunchPlan(launch_plan("filtered", version, cron=cron))
        await set_state(admin, "filtered", "v1", ACTIVE)
        every = [("filtered", "v3"), ("filtered", "v2"), ("filtered", "v1")]
        assert await listed(admin, "filtered") == every
        for filters, expected in {
            "eq(schedule_type, CRON)+ne(state, 1)": [("filtered", "v2")],
            "eq(launch_condition_type, SCHED)": [("filtered", "v2")],
            "eq(state,1)": [("filtered", "v1")],
            "eq(workflow.name,work)+eq(workflow.version,v3)": [("filtered", "v3")],
            "eq(workflow.name,i-don't-exist)": [],
            "eq(launch_plan.version,v2)": [("filtered", "v2")],
        }.items():
            assert await listed(admin, "filtered", filters=filters) == expected
        ascending = Sort(key="created_at", direction=Sort.ASCENDING)
        assert await listed(admin, "filtered", filters="eq(workflow.name,work)", sort_by=ascending) == every[::-1]
        await refused(
            listed(admin, "filtered", filters="eq(task.name,x)"), INVALID_ARGUMENT, "'t' entity is not allowed"
        )

    async def test_active_plans_are_listed_once_a_name(self, admin: AdminServiceStub) -> None:
        for name in ("on", "off"):
            for version in VERSIONS:
                await admin.CreateLaunchPlan(launch_plan(name, version))
        await set_state(admin, "on", "v2", ACTIVE)
        request = ActiveLaunchPlanListRequest(project=PROJECT, domain=DOMAIN, limit=100, sort_by=Sort(key="name"))
        plans = (await admin.ListActiveLaunchPlans(request)).launch_plans
        assert [plan.id.version for plan in plans if plan.id.name == "on"] == ["v2"]
        assert all(plan.closure.state == ACTIVE for plan in plans)
        assert [plan.id.name for plan in plans] == sorted((plan.id.name for plan in plans), reverse=True)

    async def test_list_launch_plan_ids_needs_a_project_or_a_domain(self, admin: AdminServiceStub) -> None:
        await admin.CreateLaunchPlan(launch_plan("a-name"))
        request = NamedEntityIdentifierListRequest(project=PROJECT, limit=1)
        response = await admin.ListLaunchPlanIds(request)
        a_name = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="a-name")
        assert (list(response.entities), response.token) == ([a_name], "1")
        request = NamedEntityIdentifierListRequest(limit=1)
        await refused(admin.ListLaunchPlanIds(request), INVALID_ARGUMENT, "missing and/or invalid parameters: filters")
        request = NamedEntityIdentifierListRequest(project=PROJECT)
        assert a_name in (await admin.ListLaunchPlanIds(request)).entities
        request = NamedEntityIdentifierListRequest(project=PROJECT, limit=1, token="x")
        error = await refused(admin.ListLaunchPlanIds(request), INVALID_ARGUMENT, "invalid pagination token x")
        assert " for " not in (error.details() or "")
