"""Map tasks from batches of events to responses, which are the same with subtasks in rows of their own."""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flyteidl.admin.task_execution_pb2 import (
    TaskExecution,
    TaskExecutionClosure,
    TaskExecutionGetDataRequest,
    TaskExecutionGetRequest,
    TaskExecutionListRequest,
)
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.core.identifier_pb2 import (
    NodeExecutionIdentifier,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.event.event_pb2 import ExternalResourceInfo, TaskExecutionEvent
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.event_batches import Batch, encode_batch, lane_of, subject_of
from services.executions.events.batches import EventBatchConsumer
from services.executions.rules.events.batch import Event
from services.executions.rules.events.external_resources import (
    CHUNK_INDEXES,
    INLINE_RESOURCES,
    MOST_PENDING_CHUNK_BYTES,
)
from services.executions.rules.events.layout import ObjectLayout
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox
from services.kit.messaging.streams import Delivery
from services.kit.objects.store import ObjectStore
from tests.support.event_makers import TASK, VALUES, batched, node_event, task_event
from tests.support.event_path import Executions
from tests.support.external_resources import ResourceList, metadata_with, resource
from tests.support.parts import Parts, Served, service

SUBTASKS = 1000
SUBTASKS_PER_EVENT = 20
MANY = INLINE_RESOURCES + 1


@pytest.fixture(scope="module")
def objects(parts: Parts) -> Path:
    return parts.folder / "map-objects"


@pytest.fixture(scope="module")
async def served(parts: Parts, objects: Path) -> AsyncIterator[Served]:
    async with service(
        "executions", parts, "map_executions", objects_url=f"file://{objects}", signing_key="key"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


@dataclass
class Maps:
    """Executions with map tasks, and the consumer of their batches."""

    executions: Executions
    listener: EventBatchConsumer

    async def take(self, *received: Event) -> None:
        """Apply `received` as one batch."""
        payload = encode_batch(Batch(uuid.uuid4().hex, tuple(map(batched, received))))
        lane = lane_of("p", "d", "e")
        await self.listener.apply_delivery(lane, Delivery(subject_of(lane), payload, 1, datetime.now(UTC)))

    async def with_node(self, *nodes: str) -> str:
        """Create an execution with `nodes` and return its name."""
        name = self.executions.create()
        await self.take(*(node_event("RUNNING", node=node, name=name) for node in nodes or ("n0",)))
        return name

    def write_as_the_former_release(self, name: str, closure: bytes) -> None:
        """Store `closure` for the execution's task, as a replica of the former release does for a batch."""
        with psycopg.connect(self.executions.url) as connection:
            connection.execute("UPDATE task_executions SET closure = %s WHERE execution_name = %s", (closure, name))
            connection.execute("UPDATE event_lanes SET stream_sequence = stream_sequence + 1")

    def chunks(self, name: str, columns: str = "chunk") -> list[tuple[Any, ...]]:
        """Return rows of chunks of the execution's tasks, in order."""
        with psycopg.connect(self.executions.url) as connection:
            return connection.execute(
                f"SELECT {columns} FROM external_resources r JOIN task_executions t ON t.id = r.task_execution_id"
                " WHERE execution_name = %s ORDER BY t.id, chunk",
                (name,),
            ).fetchall()


@pytest.fixture
async def maps(parts: Parts, served: Served, objects: Path) -> AsyncIterator[Maps]:
    url = served.settings.database_url
    store = ObjectStore.open(f"file://{objects}", "", "key")
    db = await Database.open(url)
    bus = await Bus.connect(parts.nats_url, "test-map-tasks")
    yield Maps(
        Executions(url, parts.nats_url, store), EventBatchConsumer(db, bus, store, Outbox(), ObjectLayout(store.uri))
    )
    await bus.close()
    await db.close()


def task_id(name: str, node: str = "n0", attempt: int = 0) -> TaskExecutionIdentifier:
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name=name)
    parent = NodeExecutionIdentifier(execution_id=execution, node_id=node)
    return TaskExecutionIdentifier(task_id=TASK, node_execution_id=parent, retry_attempt=attempt)


async def found(admin: AdminServiceStub, name: str, node: str = "n0", attempt: int = 0) -> TaskExecution:
    task: TaskExecution = await admin.GetTaskExecution(TaskExecutionGetRequest(id=task_id(name, node, attempt)))
    return task


async def resources(admin: AdminServiceStub, name: str, node: str = "n0") -> list[ExternalResourceInfo]:
    return list((await found(admin, name, node)).closure.metadata.external_resources)


def report(
    name: str, phase: str, entries: Sequence[ExternalResourceInfo], version: int = 0, node: str = "n0", **fields: Any
) -> TaskExecutionEvent:
    return task_event(phase, version=version, name=name, node=node, metadata=metadata_with(*entries), **fields)


def logs(index: int) -> list[TaskLog]:
    """Return a log that stays and one that is removed when the task has ended."""
    uri = f"https://logs.example.org/{uuid.uuid5(uuid.NAMESPACE_URL, str(index))}/pod?index={index}"
    return [TaskLog(uri=uri, name=f"Logs-{index}"), TaskLog(uri=f"{uri}&live", HideOnceFinished=True)]


def events_of(name: str, node: str, seed: int) -> list[TaskExecutionEvent]:
    """Return the events of a map task: each is about some subtasks in any order, or about second attempts."""
    everything = [resource(index, external_id=f"pod-{index}-0") for index in _scattered(seed, SUBTASKS)]
    rounds = [
        [
            resource(index, index % 2, external_id=f"pod-{index}-{index % 2}", phase="RUNNING", logs=logs(index))
            for index in _scattered(seed + 31 * number, SUBTASKS_PER_EVENT)
        ]
        for number in range(30)
    ]
    done = [resource(index, phase="SUCCEEDED") for index in range(SUBTASKS)]
    return [
        report(name, "QUEUED", everything, node=node),
        *(report(name, "RUNNING", entries, version, node) for version, entries in enumerate(rounds)),
        report(name, "SUCCEEDED", done, node=node, output_data=VALUES),
    ]


def _scattered(start: int, count: int) -> list[int]:
    """Return indexes of different subtasks in no order; 617 and the number of subtasks have no common divisor."""
    return [(start + 617 * number) % SUBTASKS for number in range(count)]


def expected(events: Sequence[TaskExecutionEvent]) -> list[ExternalResourceInfo]:
    model = ResourceList()
    for event in events:
        model.take(event)
    return model.resources


async def test_map_task_of_a_thousand_is_returned_as_reported(admin: AdminServiceStub, maps: Maps) -> None:
    name = await maps.with_node()
    events = events_of(name, "n0", 1)
    for number, event in enumerate(events, 1):
        await maps.take(event)
        if number in {1, 2, 20, len(events)}:
            assert await resources(admin, name) == expected(events[:number])
    (whole,) = (
        await admin.ListTaskExecutions(
            TaskExecutionListRequest(node_execution_id=task_id(name).node_execution_id, limit=10)
        )
    ).task_executions
    assert whole == await found(admin, name)
    assert len(whole.closure.metadata.external_resources) > SUBTASKS
    data = await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id(name)))
    assert data.full_outputs == VALUES
    ((stored,),) = maps.executions.rows("task_executions", "closure", name)
    assert not TaskExecutionClosure.FromString(stored).metadata.external_resources  # type: ignore[arg-type]


async def test_batch_may_be_about_several_map_tasks(admin: AdminServiceStub, maps: Maps) -> None:
    first, second = await maps.with_node("n0", "n1"), await maps.with_node("n0")
    histories = [
        events_of(name, node, seed) for seed, (name, node) in enumerate([(first, "n0"), (first, "n1"), (second, "n0")])
    ]
    mixed = [event for together in zip(*histories, strict=True) for event in together]
    cuts = (0, 7, 8, 40, 85, len(mixed))
    for start, end in pairwise(cuts):
        await maps.take(*mixed[start:end])
    assert await resources(admin, first, "n0") == expected(histories[0])
    assert await resources(admin, first, "n1") == expected(histories[1])
    assert await resources(admin, second, "n0") == expected(histories[2])


async def test_event_writes_only_the_chunks_that_it_changes(maps: Maps) -> None:
    name = await maps.with_node()
    await maps.take(report(name, "RUNNING", [resource(index) for index in range(5 * CHUNK_INDEXES)]))
    before = maps.chunks(name, "chunk, r.xmin::text")
    await maps.take(report(name, "RUNNING", [resource(1, phase="RUNNING"), resource(3 * CHUNK_INDEXES, 1)], 1))
    after = maps.chunks(name, "chunk, r.xmin::text")
    assert [number for (number, old), (_, new) in zip(before, after, strict=True) if old != new] == [0, 3]


async def test_phase_filters_the_logs_of_all_subtasks(admin: AdminServiceStub, maps: Maps) -> None:
    name = await maps.with_node()
    await maps.take(report(name, "RUNNING", [resource(index, logs=logs(index)) for index in range(MANY)]))
    await maps.take(task_event("RUNNING", version=1, name=name))
    assert [len(entry.logs) for entry in await resources(admin, name)] == [2] * MANY
    await maps.take(report(name, "RUNNING", [resource(0)], 2), task_event("FAILED", name=name))
    assert [entry.logs[0].name for entry in await resources(admin, name)] == [f"Logs-{n}" for n in range(MANY)]
    assert [len(entry.logs) for entry in await resources(admin, name)] == [1] * MANY


async def test_event_that_cannot_be_stored_does_not_change_subtasks(admin: AdminServiceStub, maps: Maps) -> None:
    name = await maps.with_node()
    await maps.take(
        report(name, "RUNNING", [resource(index) for index in range(MANY)]),
        report(name, "RUNNING", [resource(0, external_id="bad")], 1, input_uri="no\x00text"),
        report(name, "RUNNING", [resource(1, external_id="good")], 2),
    )
    assert [entry.external_id for entry in await resources(admin, name)] == ["", "good", *[""] * (MANY - 2)]


async def test_page_may_have_tasks_with_and_without_chunks(admin: AdminServiceStub, maps: Maps) -> None:
    name = await maps.with_node()
    sizes = [0, MANY, 1, 3 * MANY, INLINE_RESOURCES]
    for attempt, size in enumerate(sizes):
        entries = [resource(index, external_id=f"{attempt}") for index in range(size)]
        await maps.take(report(name, "RUNNING", entries, retry_attempt=attempt))
    request = TaskExecutionListRequest(node_execution_id=task_id(name).node_execution_id, limit=2)
    listed: list[TaskExecution] = []
    while not listed or request.token:
        page = await admin.ListTaskExecutions(request)
        assert len(page.task_executions) <= 2
        listed += page.task_executions
        request.token = page.token
    assert [len(task.closure.metadata.external_resources) for task in listed] == sizes
    assert listed == [await found(admin, name, attempt=attempt) for attempt in range(len(sizes))]
    request.filters = f"eq(retry_attempt,3)+eq(node_execution.node_id,n0)+eq(name,{name})"
    assert (await admin.ListTaskExecutions(request)).task_executions == [listed[3]]


async def test_tasks_with_few_resources_never_read_chunks(admin: AdminServiceStub, maps: Maps) -> None:
    name = await maps.with_node()
    entries = [resource(index) for index in range(INLINE_RESOURCES)]
    async with await psycopg.AsyncConnection.connect(maps.executions.url) as other:
        await other.execute("LOCK TABLE external_resources IN ACCESS EXCLUSIVE MODE")
        await maps.take(report(name, "QUEUED", entries))
        await maps.take(
            report(name, "RUNNING", [resource(0, phase="RUNNING", logs=logs(0))]), task_event("SUCCEEDED", name=name)
        )
        await other.rollback()
    assert [len(entry.logs) for entry in await resources(admin, name)] == [1, *[0] * (INLINE_RESOURCES - 1)]
    assert maps.chunks(name) == []


async def test_rows_of_the_former_release_are_returned_and_moved_by_the_next_event(
    admin: AdminServiceStub, maps: Maps
) -> None:
    name = await maps.with_node()
    await maps.take(task_event("RUNNING", name=name))
    metadata = metadata_with(*(resource(index, external_id=f"pod-{index}") for index in range(MANY)))
    as_before = TaskExecutionClosure(phase="RUNNING", metadata=metadata).SerializeToString()
    maps.write_as_the_former_release(name, as_before)
    assert (await found(admin, name)).closure.metadata == metadata
    await maps.take(report(name, "RUNNING", [resource(MANY)], 1))
    assert maps.chunks(name) == [(number,) for number in range(MANY // CHUNK_INDEXES + 1)]
    assert await resources(admin, name) == [*metadata.external_resources, resource(MANY)]
    # A replica of the former release applies the next event: it reads no chunks and starts a list in the closure.
    ((stored,),) = maps.executions.rows("task_executions", "closure", name)
    closure = TaskExecutionClosure.FromString(stored)  # type: ignore[arg-type]  # a row of unknown types
    closure.metadata.external_resources.append(resource(2, phase="RUNNING"))
    maps.write_as_the_former_release(name, closure.SerializeToString())
    merged = [*metadata.external_resources, resource(MANY)]
    merged[2] = resource(2, external_id="pod-2", phase="RUNNING")
    assert await resources(admin, name) == merged
    await maps.take(task_event("RUNNING", version=2, name=name))
    assert await resources(admin, name) == merged


async def test_logs_of_very_large_resources_are_not_filtered_by_every_change_of_phase(
    admin: AdminServiceStub, maps: Maps
) -> None:
    """A small event would read and write megabytes each time."""
    name = await maps.with_node()
    log = TaskLog(uri="u" * (MOST_PENDING_CHUNK_BYTES // MANY), HideOnceFinished=True)
    shown = metadata_with(*(resource(index, logs=[log]) for index in range(MANY)))
    await maps.take(task_event("RUNNING", name=name, metadata=shown))
    await maps.take(task_event("QUEUED", name=name, metadata=metadata_with(resource(MANY - 1, 1))))
    shown_resources = await resources(admin, name)
    assert [len(each.logs) for each in shown_resources] == [1] * CHUNK_INDEXES + [0, 0]  # one chunk was read
    await maps.take(task_event("SUCCEEDED", name=name))
    assert not any(each.logs for each in await resources(admin, name))
