"""Concurrent registrations and activations of one entity, through the gateway, with two replicas of the registry."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, NamedEntityIdentifierListRequest, ResourceListRequest
from flyteidl.admin.launch_plan_pb2 import (
    ActiveLaunchPlanListRequest,
    ActiveLaunchPlanRequest,
    LaunchPlan,
    LaunchPlanCreateRequest,
    LaunchPlanState,
    LaunchPlanUpdateRequest,
)
from flyteidl.admin.task_pb2 import TaskCreateRequest
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.message import Message

from bench.fill import database
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
from tests.support.refusals import codes
from tests.support.sandbox import Sandbox

OK = grpc.StatusCode.OK
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND

VERSIONS = tuple(f"v{number}" for number in range(10))
ROUNDS = 15


@pytest.fixture(scope="module")
async def admin(pair: Sandbox) -> AsyncIterator[AdminServiceStub]:
    """Yield AdminService through the gateway, with a task and a workflow in all VERSIONS."""
    async with pair.channel() as channel:
        stub = AdminServiceStub(channel)
        await stub.CreateTask(task("double", {"x": INTEGER}, {"o0": INTEGER}))
        await asyncio.gather(*(stub.CreateWorkflow(work("work", version)) for version in VERSIONS))
        yield stub


def work(name: str, version: str, node: str = "n0") -> WorkflowCreateRequest:
    nodes = [task_node(node, "double", promise("x", "", "x"))]
    return workflow(name, {"x": INTEGER}, {"o0": INTEGER}, nodes, [promise("o0", node, "o0")], version=version)


def scheduled(name: str, version: str) -> LaunchPlanCreateRequest:
    request = launch_plan(name, "work", {"x": (INTEGER, integer(1))}, version=version)
    request.spec.entity_metadata.schedule.cron_schedule.schedule = "0 0 1 1 *"
    return request


def activation(name: str, version: str) -> LaunchPlanUpdateRequest:
    return LaunchPlanUpdateRequest(id=identifier(ResourceType.LAUNCH_PLAN, name, version), state=LaunchPlanState.ACTIVE)


async def active_versions(admin: AdminServiceStub, name: str) -> list[str]:
    """Return the active versions of a name, by a filter."""
    where = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    plans = await admin.ListLaunchPlans(ResourceListRequest(id=where, limit=100, filters="eq(state,1)"))
    return [plan.id.version for plan in plans.launch_plans]


async def listed_active(admin: AdminServiceStub, name: str) -> list[str]:
    """Return the same by the list of active ones."""
    plans = await admin.ListActiveLaunchPlans(ActiveLaunchPlanListRequest(project=PROJECT, domain=DOMAIN, limit=100))
    return [plan.id.version for plan in plans.launch_plans if plan.id.name == name]


async def got_active(admin: AdminServiceStub, name: str) -> list[str]:
    """Return the same by GetActiveLaunchPlan."""
    where = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    plan: LaunchPlan = await admin.GetActiveLaunchPlan(ActiveLaunchPlanRequest(id=where))
    return [plan.id.version] if plan.closure.state == LaunchPlanState.ACTIVE else []


async def test_fifty_concurrent_activations_leave_one_active_and_readers_always_see_one(
    pair: Sandbox, admin: AdminServiceStub
) -> None:
    await asyncio.gather(*(admin.CreateLaunchPlan(scheduled("raced", version)) for version in VERSIONS))
    await admin.UpdateLaunchPlan(activation("raced", VERSIONS[0]))
    ended = asyncio.Event()
    seen: list[list[str]] = []

    async def watch(read: Callable[[AdminServiceStub, str], Awaitable[list[str]]]) -> None:
        while not ended.is_set():
            seen.append(await read(admin, "raced"))

    watching = [asyncio.create_task(watch(read)) for read in (active_versions, listed_active, got_active)]
    returned = await codes([admin.UpdateLaunchPlan(activation("raced", version)) for version in VERSIONS * 5])
    ended.set()
    await asyncio.gather(*watching)
    assert Counter(returned) == {OK: 50}
    assert [versions for versions in seen if len(versions) != 1] == []
    assert len(seen) >= len(watching)
    (last,) = await active_versions(admin, "raced")
    with psycopg.connect(database(pair.folder, "registry")) as connection:
        firing = connection.execute("SELECT version FROM schedulable_entities WHERE name = 'raced' AND active")
        assert firing.fetchall() == [(last,)]


async def test_concurrent_registrations_and_activations_do_not_block_each_other(admin: AdminServiceStub) -> None:
    for number in range(ROUNDS):
        name = f"new{number}"
        calls = [admin.CreateLaunchPlan(scheduled(name, version)) for version in VERSIONS]
        calls += [admin.UpdateLaunchPlan(activation(name, version)) for version in VERSIONS]
        returned = await codes(calls)
        assert returned[: len(VERSIONS)] == [OK] * len(VERSIONS)
        assert set(returned[len(VERSIONS) :]) <= {OK, NOT_FOUND}
        assert len(await active_versions(admin, name)) == (OK in returned[len(VERSIONS) :])


def same_task(name: str) -> tuple[TaskCreateRequest, TaskCreateRequest]:
    return task(name, {"x": INTEGER}, {}), task(name, {"x": INTEGER}, {}, image="other:1")


def same_workflow(name: str) -> tuple[WorkflowCreateRequest, WorkflowCreateRequest]:
    return work(name, "v1"), work(name, "v1", node="other")


def same_launch_plan(name: str) -> tuple[LaunchPlanCreateRequest, LaunchPlanCreateRequest]:
    version = VERSIONS[1]
    plain = launch_plan(name, "work", version=version)
    return plain, launch_plan(name, "work", fixed=literals(x=1), version=version)


KINDS = [
    ("Task", "tasks", same_task),
    ("Workflow", "workflows", same_workflow),
    ("LaunchPlan", "launch_plans", same_launch_plan),
]
Requests = Callable[[str], tuple[Any, Any]]


async def listed(admin: AdminServiceStub, kind: str, field: str, name: str) -> int:
    """Return the number of versions of `name` in a list, and check that its name is listed once."""
    where = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    page = await getattr(admin, f"List{kind}s")(ResourceListRequest(id=where, limit=100))
    names = await getattr(admin, f"List{kind}Ids")(
        NamedEntityIdentifierListRequest(project=PROJECT, domain=DOMAIN, limit=1000)
    )
    assert [entity.name for entity in names.entities].count(name) == 1
    return len(getattr(page, field))


@pytest.mark.parametrize(("kind", "field", "requests"), KINDS)
async def test_same_entity_registered_twice_at_once_is_one_success_and_one_already_exists(
    admin: AdminServiceStub, kind: str, field: str, requests: Requests
) -> None:
    create: Callable[[Message], Awaitable[object]] = getattr(admin, f"Create{kind}")
    for number in range(ROUNDS):
        request, _ = requests(f"twice{number}")
        assert Counter(await codes([create(request), create(request)])) == {OK: 1, ALREADY_EXISTS: 1}
        assert await listed(admin, kind, field, f"twice{number}") == 1


@pytest.mark.parametrize(("kind", "field", "requests"), KINDS)
async def test_two_structures_registered_at_once_are_one_success_and_one_refusal(
    admin: AdminServiceStub, kind: str, field: str, requests: Requests
) -> None:
    create: Callable[[Message], Awaitable[object]] = getattr(admin, f"Create{kind}")
    for number in range(ROUNDS):
        first, other = requests(f"differ{number}")
        assert Counter(await codes([create(first), create(other)])) == {OK: 1, INVALID_ARGUMENT: 1}
        assert await listed(admin, kind, field, f"differ{number}") == 1


@pytest.mark.parametrize(("kind", "field", "requests"), KINDS)
async def test_one_of_two_hundred_registrations_of_one_id_succeeds(
    admin: AdminServiceStub, kind: str, field: str, requests: Requests
) -> None:
    create: Callable[[Message], Awaitable[object]] = getattr(admin, f"Create{kind}")
    first, other = requests("crowd")
    returned = await codes([create(request) for request in (first, other) * 100])
    assert Counter(returned) == {OK: 1, ALREADY_EXISTS: 99, INVALID_ARGUMENT: 100}
    assert await listed(admin, kind, field, "crowd") == 1
