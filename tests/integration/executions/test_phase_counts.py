"""Counts of nodes and tasks by phase: updated with the events, printed by a command."""

import asyncio
import json
import os
import sys

import psycopg
import pytest

from services.executions.rules.events.batch import Event
from services.kit.messaging.bus import Bus
from tests.support.event_makers import node_event, task_event, workflow_event
from tests.support.event_path import Executions, delivery, verdicts_of
from tests.support.parts import Parts

# The stored counts of executions that differ from the counts of their rows.
DIFFERENT = """
WITH counted AS (
    SELECT execution_project AS p, execution_domain AS d, execution_name AS e, jsonb_object_agg(phase, number) AS phases
    FROM (SELECT execution_project, execution_domain, execution_name, phase, count(*) AS number FROM {table}
          GROUP BY 1, 2, 3, 4) AS rows GROUP BY 1, 2, 3)
SELECT e, phases, {column} FROM counted
FULL JOIN phase_counts c ON (c.execution_project, c.execution_domain, c.execution_name) = (p, d, e)
WHERE COALESCE(phases, '{{}}') IS DISTINCT FROM {column}
"""


def assert_counted(executions: Executions) -> None:
    with psycopg.connect(executions.url) as connection:
        for table, column in (("node_executions", "nodes"), ("task_executions", "tasks")):
            assert connection.execute(DIFFERENT.format(table=table, column=column)).fetchall() == []


@pytest.fixture(scope="module")
async def executions(parts: Parts) -> Executions:
    return await Executions.migrated(parts, "test_phase_counts")


async def phases(executions: Executions, name: str, *options: str) -> tuple[int, str]:
    """Run the command as an operator does; return its exit status and its output."""
    command = [sys.executable, "-m", "services.executions", "phases", f"p/d/{name}", *options]
    environment = os.environ | {"FLYTEPLANE_DATABASE_URL": executions.url, "FLYTEPLANE_SIGNING_KEY": "key"}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def test_counts_follow_every_event_and_start_with_the_stored_rows(parts: Parts, executions: Executions) -> None:
    name, other = executions.create(), executions.create()
    bus = await Bus.connect(parts.nats_url, "test-phase-counts")
    async with executions.replica() as replica:

        async def send(*events: Event) -> None:
            lane, sent = delivery(name, events)
            await verdicts_of(bus, replica.apply_delivery, lane, sent)

        await send(workflow_event("RUNNING", name=name), node_event("QUEUED", name=name))
        await send(*(node_event("QUEUED", node=f"n{number}", name=name) for number in range(1, 5)))
        with psycopg.connect(executions.url, autocommit=True) as connection:
            connection.execute("DELETE FROM phase_counts")
    async with executions.replica() as replica:
        await send(
            node_event("RUNNING", name=name),
            task_event("RUNNING", name=name),
            task_event("RUNNING", name="unknown"),
            node_event("FAILED", node="n1", name=name),
            node_event("RUNNING", node="n1", name=name),
        )
        assert_counted(executions)
        await send(task_event("SUCCEEDED", name=name), node_event("SUCCEEDED", name=name))
    await bus.close()
    assert_counted(executions)
    assert await phases(executions, name) == (
        0,
        """execution  RUNNING
nodes      FAILED     1
nodes      QUEUED     3
nodes      SUCCEEDED  1
tasks      SUCCEEDED  1
""",
    )
    status, printed = await phases(executions, other, "--json")
    assert (status, json.loads(printed)) == (0, {"phase": "UNDEFINED", "nodes": {}, "tasks": {}})
    assert await phases(executions, "missing") == (1, "no execution p/d/missing\n")
