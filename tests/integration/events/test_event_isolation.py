"""Isolation: a bad event does not affect its batch, nor a locked or busy execution its lane."""

import asyncio
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import psycopg
import pytest
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.core.catalog_pb2 import CatalogMetadata
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.event.event_pb2 import TaskNodeMetadata
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.event_batches import BatchedEvent, Kind
from services.executions.events.batches import EventBatchConsumer
from services.executions.rules.events.batch import Event
from services.kit.errors import Code
from services.kit.messaging.bus import Bus
from tests.support.event_makers import batched, node_event, task_event, workflow_event
from tests.support.event_model_checks import OK, Verdict
from tests.support.event_path import Executions, delivery, verdict_of, verdicts_of
from tests.support.parts import Parts, service
from tests.support.waiting import until

LANE_LENGTH = 20
EXECUTION_EVENTS = 8
NEWER = 77  # a value of an enum that only a newer engine knows


@pytest.fixture(scope="module")
async def executions(parts: Parts) -> Executions:
    return await Executions.migrated(parts, "test_event_isolation")


@pytest.fixture(scope="module")
async def admin(parts: Parts, executions: Executions) -> AsyncIterator[AdminServiceStub]:
    settings = {
        "objects_url": executions.objects.uri(),
        "verdict_wait_seconds": 14,
        "lane_length": LANE_LENGTH,
        "execution_events": EXECUTION_EVENTS,
    }
    async with service("events", parts, "test_isolation_events", **settings) as running:
        yield AdminServiceStub(running.channel)


def bad_events(name: str) -> dict[str, tuple[Event | BatchedEvent, Code]]:
    """Return events that cannot be stored, or look like it, with their verdicts."""
    endless = Identifier(resource_type=ResourceType.TASK, project="p", domain="d", name=token_hex(4000), version="v")
    long_task = task_event("QUEUED", name=name)
    long_task.task_id.CopyFrom(endless)
    error = ExecutionError(code="c")
    error.kind = NEWER  # type: ignore[assignment]  # the wire allows any number
    cached = TaskNodeMetadata(catalog_key=CatalogMetadata(dataset_id=endless))
    cached.cache_status = NEWER  # type: ignore[assignment]  # same
    return {
        "no event": (BatchedEvent(Kind.NODE, b"\xff\xff"), Code.INVALID_ARGUMENT),
        "another kind": (BatchedEvent(Kind.TASK, batched(node_event("QUEUED", name=name)).body), Code.NOT_FOUND),
        "zero byte": (node_event("QUEUED", node="b", name=name, input_uri="a\0b"), Code.INVALID_ARGUMENT),
        "zero byte in a key": (node_event("QUEUED", node="a\0b", name=name), Code.INVALID_ARGUMENT),
        "zero byte in a name": (workflow_event("QUEUED", name="a\0b"), Code.INVALID_ARGUMENT),
        "too long for an index": (long_task, Code.INVALID_ARGUMENT),
        "number out of range": (task_event("QUEUED", name=name, version=2**31, retry_attempt=1), Code.INVALID_ARGUMENT),
        "attempt out of range": (task_event("QUEUED", name=name, retry_attempt=2**32 - 1), Code.INVALID_ARGUMENT),
        "no time": (node_event("QUEUED", None, "b", name), Code.INVALID_ARGUMENT),
        "unknown node": (task_event("QUEUED", node="unknown", name=name), Code.NOT_FOUND),
        "object gone": (BatchedEvent(Kind.NODE, b"", by_reference=True), Code.INTERNAL),
        "error of a newer engine": (node_event("FAILED", node="e", name=name, error=error), Code.OK),
        "cache of a newer engine": (
            node_event("QUEUED", node="c", name=name, task_node_metadata=cached),
            Code.OK,
        ),
        "huge": (node_event("QUEUED", node="h", name=name, input_uri="x" * 3_000_000), Code.OK),
    }


@pytest.mark.parametrize("kind", bad_events(""))
async def test_a_bad_event_does_not_affect_its_batch(
    applied: EventBatchConsumer, executions: Executions, bus: Bus, kind: str
) -> None:
    name, other = executions.create(), executions.create()
    event, verdict = bad_events(name)[kind]
    good: list[Event] = [
        workflow_event("RUNNING", name=name),
        node_event("QUEUED", name=name),
        task_event("QUEUED", name=name),
        workflow_event("RUNNING", name=other),
    ]
    later: list[Event] = [node_event("RUNNING", name=name), task_event("RUNNING", name=name)]
    lane, sent = delivery(name, [*good, event, *later])
    codes = await verdicts_of(bus, applied.apply_delivery, lane, sent)
    assert codes == [Code.OK] * len(good) + [verdict] + [Code.OK] * len(later)
    more = [] if verdict else ["FAILED"] if "error" in kind else ["QUEUED"]
    assert executions.phases(name) == ["RUNNING", "RUNNING", *more, "RUNNING"]
    assert executions.phases(other) == ["RUNNING"]


async def test_all_bad_events_in_one_batch_do_not_affect_the_good_ones(
    applied: EventBatchConsumer, executions: Executions, bus: Bus
) -> None:
    name = executions.create()
    received: list[Event | BatchedEvent] = [node_event("QUEUED", name=name)]
    expected: list[int] = [Code.OK]
    for number, (event, verdict) in enumerate(bad_events(name).values()):
        received += [event, node_event("QUEUED", node=f"n{number + 1}", name=name)]
        expected += [verdict, Code.OK]
    lane, sent = delivery(name, received)
    assert await verdicts_of(bus, applied.apply_delivery, lane, sent) == expected
    nodes = {node for (node,) in executions.rows("node_executions", "node_id", name)}
    assert nodes == {"e", "c", "h", *(f"n{number}" for number in range(len(bad_events(name)) + 1))}


def lock_is_awaited(executions: Executions) -> bool:
    with psycopg.connect(executions.url) as connection:
        (waiting,) = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() or (0,)
    return bool(waiting)


@pytest.mark.usefixtures("applied")
async def test_a_locked_and_busy_execution_delays_others_only_while_it_is_locked(
    admin: AdminServiceStub, executions: Executions
) -> None:
    """A user locks its row, and its engine sends too many events: those over the limit are refused at once."""
    busy, *others = (executions.create() for _ in range(9))
    async with await psycopg.AsyncConnection.connect(executions.url) as user:
        await user.execute("SELECT 1 FROM executions WHERE execution_name = %s FOR UPDATE", (busy,))
        held = asyncio.create_task(verdict_of(admin, workflow_event("RUNNING", name=busy)))
        await until(lambda: lock_is_awaited(executions))
        events = [node_event("QUEUED", node=f"n{number}", name=busy) for number in range(EXECUTION_EVENTS + 5)]
        burst = [asyncio.create_task(verdict_of(admin, event)) for event in events]
        behind = [asyncio.create_task(verdict_of(admin, workflow_event("RUNNING", name=other))) for other in others]
        await until(lambda: sum(task.done() for task in burst) == 5)
        full = [task.result() for task in burst if task.done()]
        assert not held.done()
        await user.rollback()
    verdicts = await asyncio.gather(*burst)
    assert full == [("RESOURCE_EXHAUSTED", {})] * 5
    assert (verdicts.count(OK), await held) == (EXECUTION_EVENTS, OK)
    assert executions.phases(busy) == ["RUNNING", *["QUEUED"] * EXECUTION_EVENTS]
    assert await asyncio.gather(*behind) == [OK] * len(others)
    for phase in ("SUCCEEDING", "SUCCEEDED"):
        more = [verdict_of(admin, workflow_event(phase, name=other)) for other in others]
        assert await asyncio.gather(*more) == [OK] * len(others)


@pytest.mark.usefixtures("applied")
async def test_a_busy_execution_does_not_fill_its_lane(admin: AdminServiceStub, executions: Executions) -> None:
    """Events over its limit are refused; a full lane refuses those of all executions, at once."""
    busy, second, third = (executions.create() for _ in range(3))

    def sends(name: str, number: int) -> list[asyncio.Task[Verdict]]:
        return [
            asyncio.create_task(verdict_of(admin, node_event("QUEUED", node=f"n{n}", name=name))) for n in range(number)
        ]

    async with await psycopg.AsyncConnection.connect(executions.url) as user:
        await user.execute("SELECT 1 FROM executions WHERE execution_name = %s FOR UPDATE", (busy,))
        held = asyncio.create_task(verdict_of(admin, workflow_event("RUNNING", name=busy)))
        await until(lambda: lock_is_awaited(executions))
        burst = sends(busy, EXECUTION_EVENTS + 1)
        await until(lambda: sum(task.done() for task in burst) == 1)
        others = [*sends(second, EXECUTION_EVENTS), *sends(third, LANE_LENGTH - 2 * EXECUTION_EVENTS + 1)]
        await until(lambda: sum(task.done() for task in others) == 1)
        await user.rollback()
    of_busy, of_others = await asyncio.gather(*burst), await asyncio.gather(*others)
    assert await held == OK
    assert of_busy.count(OK) == EXECUTION_EVENTS
    assert of_others.count(OK) == LANE_LENGTH - EXECUTION_EVENTS
    assert [verdict for verdict in (*of_busy, *of_others) if verdict != OK] == [("RESOURCE_EXHAUSTED", {})] * 2


async def test_an_event_larger_than_a_batch_travels_with_small_ones(
    applied: EventBatchConsumer, admin: AdminServiceStub, executions: Executions
) -> None:
    assert applied
    name = executions.create()
    uri = "x" * 1_500_000
    events = [node_event("QUEUED", node=f"n{number}", name=name) for number in range(EXECUTION_EVENTS)]
    events[5] = node_event("RUNNING", node="n5", name=name, deck_uri=uri)
    assert await asyncio.gather(*(verdict_of(admin, event) for event in events)) == [OK] * EXECUTION_EVENTS
    rows: list[Any] = executions.rows("node_executions", "closure", name)
    stored = [NodeExecutionClosure.FromString(closure) for (closure,) in rows]
    assert sorted(closure.deck_uri for closure in stored) == [*[""] * (EXECUTION_EVENTS - 1), uri]
