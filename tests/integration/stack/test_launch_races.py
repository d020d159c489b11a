"""Many concurrent launches, through the gateway, with two replicas of executions."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import psycopg
import pytest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec, WorkflowExecutionGetDataRequest
from flyteidl.admin.launch_plan_pb2 import CONCURRENCY_LIMIT_BEHAVIOR_SKIP, ConcurrencyPolicy
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from bench.fill import database
from services.contracts.executions import EXECUTION_CREATED
from services.executions.engine.dispatcher import DURABLE
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from tests.integration.stack import launched
from tests.support import entities
from tests.support.entities import DOMAIN, INTEGER, PROJECT, identifier, literals
from tests.support.refusals import codes
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

OK, ALREADY_EXISTS = grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

CROWD = 200
MANY = 1000
FETCH_PAUSE_SECONDS = 0.02


@pytest.fixture(scope="module")
async def admin(pair: Sandbox) -> AsyncIterator[AdminServiceStub]:
    async with pair.channel() as channel:
        yield AdminServiceStub(channel)


@pytest.fixture(scope="module")
async def plums(admin: AdminServiceStub) -> Identifier:
    return await launched.register(admin)


@pytest.fixture(scope="module")
async def announced(pair: Sandbox, admin: AdminServiceStub) -> AsyncIterator[Counter[str]]:
    """Yield how often an engine received each execution, by its name."""
    assert admin
    url = next(line.partition("=")[2].strip("'") for line in environment(pair) if "NATS_URL" in line)
    bus = await Bus.connect(url, "test-launch-races")
    received: Counter[str] = Counter()
    # The sandbox has no engine; its consumer is the one that the service's user may read.
    pull = await bus.pull_consumer(announcements_of("executions"), EXECUTION_CREATED.subject, DURABLE)

    async def take() -> None:
        while True:
            deliveries = await pull.fetch(100)
            received.update(EXECUTION_CREATED.message.FromString(each.payload).name for each in deliveries)
            await pull.acknowledge(deliveries)
            await asyncio.sleep(FETCH_PAUSE_SECONDS)  # a fetch returns at once

    taking = asyncio.create_task(take())
    yield received
    taking.cancel()
    await bus.close()


def environment(pair: Sandbox) -> list[str]:
    return (pair.folder / "env" / "executions.env").read_text().splitlines()


def request(name: str, launches: Identifier, count: int) -> ExecutionCreateRequest:
    spec = ExecutionSpec(launch_plan=launches, tags=["t"])
    return ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, name=name, spec=spec, inputs=literals(count=count))


def written(pair: Sandbox, name: str) -> list[Path]:
    """Return the objects that launches of this name have left."""
    folder = pair.folder / "objects" / "metadata" / PROJECT / DOMAIN / name
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def published(pair: Sandbox) -> None:
    """Wait until the outbox is empty."""
    with psycopg.connect(database(pair.folder, "executions"), autocommit=True) as connection:
        await until(lambda: connection.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is None)


async def test_one_of_two_hundred_launches_of_one_name_succeeds_and_only_its_inputs_stay(
    pair: Sandbox, admin: AdminServiceStub, plums: Identifier, announced: Counter[str]
) -> None:
    returned = await codes([admin.CreateExecution(request("crowd", plums, number)) for number in range(CROWD)])
    assert Counter(returned) == {OK: 1, ALREADY_EXISTS: CROWD - 1}
    inputs, user_inputs = written(pair, "crowd")
    assert (inputs.name, user_inputs.name, inputs.parent) == ("inputs", "user_inputs", user_inputs.parent)
    wanted = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name="crowd")
    data = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=wanted))
    assert data.full_inputs.literals["count"] == entities.integer(returned.index(OK))
    await until(lambda: announced["crowd"] > 0)
    await published(pair)
    assert announced["crowd"] == 1
    with psycopg.connect(database(pair.folder, "executions")) as connection:
        tags = connection.execute("SELECT key FROM execution_tags WHERE execution_name = 'crowd'").fetchall()
    assert tags == [("t",)]


async def test_thousand_concurrent_launches_succeed_or_are_resource_exhausted(
    pair: Sandbox, admin: AdminServiceStub, plums: Identifier, announced: Counter[str]
) -> None:
    names = [f"many-{number}" for number in range(MANY)]
    returned = await codes([admin.CreateExecution(request(name, plums, 1)) for name in names])
    assert set(returned) <= {OK, RESOURCE_EXHAUSTED}
    started = {name for name, code in zip(names, returned, strict=True) if code is OK}
    assert len(started) >= CROWD
    await until(lambda: started <= announced.keys())
    await published(pair)
    assert {name for name in announced if name.startswith("many-")} == started
    assert {announced[name] for name in started} == {1}
    assert {name for name in names if written(pair, name)} == started


async def test_concurrency_limit_applies_across_replicas_and_refused_launches_leave_nothing(
    pair: Sandbox, admin: AdminServiceStub, plums: Identifier
) -> None:
    assert plums
    plan = entities.launch_plan(
        "stack.limited", "stack.report", {"count": (INTEGER, entities.integer(3))}, literals(unit="plums")
    )
    policy = ConcurrencyPolicy(max=3, behavior=CONCURRENCY_LIMIT_BEHAVIOR_SKIP)
    plan.spec.concurrency_policy.CopyFrom(policy)
    await admin.CreateLaunchPlan(plan)
    names = [f"limited-{number}" for number in range(30)]
    returned = await codes([admin.CreateExecution(request(name, plan.id, 1)) for name in names])
    assert Counter(returned) == {OK: 3, ALREADY_EXISTS: 27}
    started = {name for name, code in zip(names, returned, strict=True) if code is OK}
    assert {name for name in names if written(pair, name)} == started


async def test_first_concurrent_launches_of_a_task_all_succeed(admin: AdminServiceStub, plums: Identifier) -> None:
    assert plums
    task = identifier(ResourceType.TASK, "stack.double")
    calls = [
        admin.CreateExecution(
            ExecutionCreateRequest(
                project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=task), inputs=literals(a=number)
            )
        )
        for number in range(50)
    ]
    assert Counter(await codes(calls)) == {OK: 50}
