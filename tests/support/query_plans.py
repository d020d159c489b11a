"""PostgreSQL's plans for the statements of stores."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from services.kit.db.database import Connection

Statement = tuple[str, Mapping[str, Any]]
"""The text and its parameters."""


async def plan_steps(connection: Connection, statement: Statement) -> list[dict[str, Any]]:
    """Run the statement; return every step of its plan, with row counts."""
    text, parameters = statement
    cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", parameters, prepare=False)
    ((plan,),) = await cursor.fetchall()
    return list(steps_of((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))


def rows_seen(step: Mapping[str, Any]) -> int:
    """Return how many rows a step reads in total."""
    return int((step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step["Actual Loops"])


async def assert_reads_only_the_page(connection: Connection, statement: Statement) -> None:
    """Assert that rows skipped by a list's offset are read from an index alone."""
    steps = await plan_steps(connection, statement)
    offset, limit = statement[1]["offset"], statement[1]["limit"]
    scans = [step for step in steps if step["Node Type"].endswith("Scan") and step["Node Type"] != "Subquery Scan"]
    for step in scans:
        # An index may also have rows that a filter excludes.
        most = 2 * (offset + limit) if step["Node Type"] == "Index Only Scan" else limit
        assert rows_seen(step) <= most, step
    assert sum(map(rows_seen, scans)) >= offset


def steps_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every step of a plan."""
    yield plan
    for step in plan.get("Plans", ()):
        yield from steps_of(step)
