"""Events are sent at the same time unless one follows another."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier
from flyteidl.event.event_pb2 import (
    NodeExecutionEvent,
    ParentNodeExecutionMetadata,
    TaskExecutionEvent,
    WorkflowExecutionEvent,
)

from deploy.sandbox.engine.event_order import EventOrder
from deploy.sandbox.engine.graph.interface import Emit, Event


def workflow(phase: WorkflowExecution.Phase = WorkflowExecution.RUNNING) -> Event:
    return WorkflowExecutionEvent(phase=phase)


def node(name: str, parent: str = "") -> Event:
    metadata = ParentNodeExecutionMetadata(node_id=parent) if parent else None
    identifier = NodeExecutionIdentifier(node_id=name)
    return NodeExecutionEvent(id=identifier, parent_node_metadata=metadata, phase=NodeExecution.QUEUED)


def task(name: str) -> Event:
    identifier = NodeExecutionIdentifier(node_id=name)
    return TaskExecutionEvent(parent_node_execution_id=identifier, phase=TaskExecution.RUNNING)


@dataclass
class Plane:
    """Holds events until they are let go."""

    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    gates: dict[int, asyncio.Event] = field(default_factory=dict)

    async def deliver(self, emit: Emit) -> None:
        self.begun.append(emit.number)
        await self.gates.setdefault(emit.number, asyncio.Event()).wait()
        self.ended.append(emit.number)

    async def let_go(self, *numbers: int) -> None:
        for number in numbers:
            self.gates.setdefault(number, asyncio.Event()).set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def plane() -> Plane:
    return Plane()


@pytest.fixture
async def order(plane: Plane) -> AsyncIterator[EventOrder]:
    made = EventOrder(plane.deliver)
    yield made
    made.cancel()


def submit(order: EventOrder, *events: Event) -> None:
    for number, event in enumerate(events):
        order.submit(Emit(number, event))


async def test_events_of_different_nodes_are_sent_at_the_same_time(plane: Plane, order: EventOrder) -> None:
    submit(order, node("n0"), node("n1"), task("n0"), task("n1"))
    await settle()
    assert plane.begun == [0, 1]
    await plane.let_go(1)
    assert plane.begun == [0, 1, 3]


async def test_event_follows_those_of_the_node_that_contains_it(plane: Plane, order: EventOrder) -> None:
    submit(order, node("n0"), node("n0-0-a", "n0"), task("n0-0-a"))
    await settle()
    assert plane.begun == [0]
    await plane.let_go(0, 1)
    assert plane.begun == [0, 1, 2]


async def test_event_of_the_workflow_separates_those_before_and_after_it(plane: Plane, order: EventOrder) -> None:
    submit(order, node("n0"), node("n1"), workflow(), node("n2"), workflow(WorkflowExecution.SUCCEEDED))
    await settle()
    assert plane.begun == [0, 1]
    await plane.let_go(1)
    assert plane.begun == [0, 1]
    await plane.let_go(0, 2)
    assert plane.begun == [0, 1, 2, 3]
    await plane.let_go(3)
    assert plane.begun == [0, 1, 2, 3, 4]


async def test_wait_ends_with_the_events_that_were_submitted_before(plane: Plane, order: EventOrder) -> None:
    submit(order, node("n0"))
    waiting = asyncio.create_task(order.accepted())
    order.submit(Emit(9, node("n1")))
    await plane.let_go(0)
    assert waiting.done()
    assert plane.ended == [0]


async def test_error_of_the_delivery_is_raised() -> None:
    async def deliver(_: Emit) -> None:
        raise ValueError("broken")

    order = EventOrder(deliver)
    submit(order, node("n0"), node("n1"))
    with pytest.raises(ValueError, match="broken"):
        await order.failure()


@pytest.mark.parametrize("seed", range(20))
async def test_any_events_are_delivered_once_and_in_order_for_each_node(seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311 - which events they are
    delivered: list[int] = []

    async def deliver(emit: Emit) -> None:
        for _ in range(chosen.randrange(4)):
            await asyncio.sleep(0)
        delivered.append(emit.number)

    order = EventOrder(deliver)
    events = [chosen.choice([node, task])(f"n{chosen.randrange(5)}") for _ in range(100)]
    for position in sorted(chosen.sample(range(100), 5)):
        events[position] = workflow()
    submit(order, *events)
    await order.accepted()
    order.cancel()
    assert sorted(delivered) == list(range(100))
    at = {number: place for place, number in enumerate(delivered)}
    for later, event in enumerate(events):
        for earlier in range(later):
            either = isinstance(event, WorkflowExecutionEvent) or isinstance(events[earlier], WorkflowExecutionEvent)
            if either or name_of(event) == name_of(events[earlier]):
                assert at[earlier] < at[later]


def name_of(event: Event) -> str:
    identifier = event.id if isinstance(event, NodeExecutionEvent) else None
    if identifier is not None:
        return identifier.node_id
    return event.parent_node_execution_id.node_id if isinstance(event, TaskExecutionEvent) else ""
