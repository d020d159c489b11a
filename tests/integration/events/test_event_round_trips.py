"""A batch whose rows are all cached is written without reading, and never over the rows of another replica."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from services.executions.events.batches import EventBatchConsumer
from services.executions.rules.events.batch import Event
from services.kit.db.pipeline import Pipeline
from services.kit.errors import Code
from services.kit.messaging.bus import Bus
from tests.support.event_makers import node_event, task_event, workflow_event
from tests.support.event_path import Executions, delivery, verdicts_of
from tests.support.parts import Parts


@pytest.fixture
async def executions(parts: Parts) -> Executions:
    return await Executions.migrated(parts, "test_event_round_trips")


@pytest.fixture
async def other(executions: Executions) -> AsyncIterator[EventBatchConsumer]:
    async with executions.replica() as listener:
        yield listener


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[Pipeline]:
    """Return a list that grows with each round trip of a transaction of events."""
    made: list[Pipeline] = []
    run = Pipeline.run

    async def counted(pipeline: Pipeline) -> None:
        made.append(pipeline)
        await run(pipeline)

    monkeypatch.setattr(Pipeline, "run", counted)
    return made


async def take(bus: Bus, replica: EventBatchConsumer, name: str, sequence: int, *events: Event) -> list[int]:
    lane, sent = delivery(name, events, sequence)
    return await verdicts_of(bus, replica.apply_delivery, lane, sent)


async def test_a_batch_that_needs_nothing_read_takes_one_round_trip(
    executions: Executions, bus: Bus, applied: EventBatchConsumer, trips: list[Pipeline]
) -> None:
    name = executions.create()
    await take(bus, applied, name, 100, workflow_event("QUEUED", name=name))
    events: list[Event] = [
        node_event("QUEUED", name=name),
        node_event("RUNNING", name=name),
        task_event("RUNNING", name=name, version=1),
        task_event("RUNNING", name=name, version=2),
        node_event("SUCCEEDED", name=name),
        workflow_event("RUNNING", name=name),
    ]
    counts = []
    for sequence, event in enumerate(events, 101):
        trips.clear()
        assert await take(bus, applied, name, sequence, event) == [Code.OK]
        counts.append(len(trips))
    # An event that may create a row looks for it first, and a user may have changed the execution.
    assert counts == [2, 1, 2, 1, 1, 2]
    assert executions.phases(name) == ["RUNNING", "SUCCEEDED", "RUNNING"]


async def test_a_refusal_without_reading_is_returned_and_announced_with_its_batch(
    executions: Executions, bus: Bus, applied: EventBatchConsumer, trips: list[Pipeline]
) -> None:
    name = executions.create()
    await take(bus, applied, name, 100, node_event("QUEUED", name=name))
    trips.clear()
    with psycopg.connect(executions.url) as locking:
        locking.execute("SELECT pg_advisory_lock(%s)", (0x6F7574626F78,))  # stops the relay
        ended, late = node_event("SUCCEEDED", name=name), node_event("RUNNING", name=name)
        verdicts = await take(bus, applied, name, 101, ended, late)
        stored = locking.execute("SELECT count(*) FROM outbox").fetchone()
    assert verdicts == [Code.OK, Code.FAILED_PRECONDITION]
    assert stored == (1,)
    assert len(trips) == 2  # rows and cursor, then the announcement and the commit


@pytest.mark.parametrize("ahead", [1, 2])
async def test_a_stalled_replica_does_not_overwrite_its_successor(
    executions: Executions, bus: Bus, applied: EventBatchConsumer, other: EventBatchConsumer, ahead: int
) -> None:
    name = executions.create()
    batches = [
        delivery(name, [node_event(phase, name=name)], sequence)
        for sequence, phase in enumerate(("QUEUED", "RUNNING", "SUCCEEDED"), 100)
    ]
    await applied.apply_delivery(*batches[0])
    for batch in batches[1 : 1 + ahead]:
        await other.apply_delivery(*batch)
    before = executions.rows("node_executions", "xmin::text, phase", name)
    await applied.apply_delivery(*batches[1])  # it had received this one before, and has cached the rows before it
    assert executions.rows("node_executions", "xmin::text, phase", name) == before
    assert await take(bus, applied, name, 103, node_event("QUEUED", node="next", name=name)) == [Code.OK]
    assert executions.phases(name) == ["UNDEFINED", ("RUNNING", "SUCCEEDED")[ahead - 1], "QUEUED"]
