"""The fold of a batch leaves turns of the event loop to other work."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from services.contracts.event_batches import Batch
from services.executions.events import applier
from services.executions.events.applier import EventApplier, ReceivedBatch, StoredBatch
from services.executions.rules.events.batch import Rows
from services.executions.rules.events.phase_counts import PhaseCounts
from tests.support.event_makers import EXECUTION_KEY, LAYOUT, batched, node_event


async def test_other_work_runs_between_the_events_of_a_slow_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applier, "_TURN_SECONDS", 0)
    unused: Any = None
    events = [node_event("RUNNING", node=f"n{number}") for number in range(3)]
    bodies = [batched(event) for event in events]
    bodies[1] = bodies[1]._replace(by_reference=True)
    source = StoredBatch(1, datetime.now(UTC))
    received = ReceivedBatch(0, Batch("b", tuple(bodies)), events, b"", None, source)
    rows = Rows(clusters={EXECUTION_KEY: ""}, counts={EXECUTION_KEY: PhaseCounts()}, free_node_ids=[1, 2, 3])
    seen = []

    async def look() -> None:
        while len(rows.nodes) < len(events):
            seen.append(len(rows.nodes))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    changes = await EventApplier(unused, unused, unused, LAYOUT)._fold(received, rows)
    await looking
    assert changes.outcomes == [None] * 3
    assert {1, 2} <= set(seen)
