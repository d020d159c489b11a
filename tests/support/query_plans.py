"""How PostgreSQL carries out a statement that a store has run."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from services.kit.db.database import Connection

Statement = tuple[str, Mapping[str, Any]]
"""The text and its parameters."""


async def plan_steps(connection: Connection, statement: Statement) -> list[dict[str, Any]]:
    """Run the statement; return every step of its plan with the rows that it came to."""
    text, parameters = statement
    cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", parameters, prepare=False)
    ((found,),) = await cursor.fetchall()
    return list(steps_of((json.loads(found) if isinstance(found, str) else found)[0]["Plan"]))


def rows_seen(step: Mapping[str, Any]) -> int:
    """Return how many rows a step looks at in all."""
    return int((step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step["Actual Loops"])


async def assert_reads_only_the_page(connection: Connection, statement: Statement) -> None:
    """Assert that the rows which the offset of a list skips are read from an index alone."""
    steps = await plan_steps(connection, statement)
    offset, limit = statement[1]["offset"], statement[1]["limit"]
    scans = [step for step in steps if step["Node Type"].endswith("Scan") and step["Node Type"] != "Subquery Scan"]
    for step in scans:
        # An index may also have what a filter leaves out.
        most = 2 * (offset + limit) if step["Node Type"] == "Index Only Scan" else limit
        assert rows_seen(step) <= most, step
    assert sum(map(rows_seen, scans)) >= offset


def steps_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every step of a plan."""
    yield plan
    for step in plan.get("Plans", ()):
        yield from steps_of(step)
