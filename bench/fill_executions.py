"""History for the executions of a local sandbox: a million of them through the API would take hours.

Rows are copies of an execution that was really played, with other names and earlier times, a second apart. Columns
that lists filter by vary as they do in a domain that has been in use. Messages stay those of the model, so a response
may show another phase than the one that the filter selected. Every tenth execution has its nodes.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from bench.fill import database
from bench.fill_registry import tidy
from bench.sequences import STAND_IN

# Rows of one statement: some seconds, after which progress is printed.
_AT_ONCE = 50_000
NODES = 5_000
BIG_RUN = "bigrun".ljust(len(STAND_IN), "0")
USER = "user1"
TAG = "tag1"
_SECONDS = sql.SQL("{} - copy * interval '1 second'")
# By column, the value of a copy instead of the model's.
_EXECUTION: Mapping[str, str] = {
    "execution_name": "'h' || lpad(copy::text, 19, '0')",
    "phase": "CASE WHEN copy % 50 = 7 THEN 'FAILED' WHEN copy % 500 = 1 THEN 'RUNNING' ELSE 'SUCCEEDED' END",
    "state": "(copy % 10 = 0)::int",
    "mode": "(copy % 50 > 0)::int",
    "user": "'user' || copy % 50",
    "duration": "copy % 50 * 1000000000::bigint",
    "workflow_name": "CASE copy % 2 WHEN 0 THEN workflow_name ELSE 'bench.other.' || copy % 100 END",
    "launch_plan_name": "CASE copy % 10 WHEN 3 THEN NULL WHEN 0 THEN launch_plan_name ELSE 'other' || copy % 10 END",
    "task_name": "CASE copy % 10 WHEN 3 THEN 'bench.work' END",
    "launch_entity": "CASE copy % 10 WHEN 3 THEN 'task' ELSE 'launch_plan' END",
}
_TIMES = frozenset({"created_at", "updated_at", "execution_created_at", "execution_updated_at", "started_at"})
_TAGS = """
INSERT INTO execution_tags (execution_project, execution_domain, execution_name, key, value)
SELECT execution_project, execution_domain, 'h' || lpad(copy::text, 19, '0'), 'tag' || copy % 50, ''
FROM executions, generate_series({first}, {last}) AS copy WHERE execution_name = {model}
"""

Connection = psycopg.Connection[tuple[object, ...]]


def fill(folder: Path, executions: int) -> None:
    """Copy the played execution STAND_IN in the sandbox in `folder` until there are that many; BIG_RUN gets NODES."""
    with psycopg.connect(database(folder, "executions"), autocommit=True) as connection:
        # Rows that a crash loses are made again.
        connection.execute("SET synchronous_commit = off")
        for first in range(_stored(connection), executions, _AT_ONCE):
            last = min(first + _AT_ONCE, executions)
            _copy(connection, "executions", _EXECUTION, range(first, last))
            tags = sql.SQL(_TAGS).format(first=first, last=last - 1, model=STAND_IN)
            connection.execute(tags)
            nodes = {"execution_name": "'h' || lpad((copy * 10)::text, 19, '0')"}
            _copy(connection, "node_executions", nodes, range(-(-first // 10), -(-last // 10)))
            sys.stdout.write(f"\rstored: {last:,} executions")
            sys.stdout.flush()
        sys.stdout.write("\n")
        if _count(connection, "node_executions", BIG_RUN) == 0:
            big = {"execution_name": f"'{BIG_RUN}'", "node_id": "'n' || copy"}
            _copy(connection, "node_executions", big, range(NODES), only_node="n0")
        for table in ("executions", "node_executions", "execution_tags"):
            tidy(connection, table)


def filled_name(number: int) -> str:
    """Return the name of copy `number`."""
    return f"h{number:019}"


def _stored(connection: Connection) -> int:
    """Return the number of copies; the names of other executions begin otherwise."""
    return _count(connection, "executions", "h%")


def _count(connection: Connection, table: str, name: str) -> int:
    statement = sql.SQL("SELECT count(*) FROM {} WHERE execution_name LIKE {}").format(sql.Identifier(table), name)
    (count,) = connection.execute(statement).fetchone() or (0,)
    return int(str(count))


def _copy(
    connection: Connection, table: str, values: Mapping[str, str], numbers: range, *, only_node: str = "%"
) -> None:
    """Copy the rows of the played execution once for each number; copies of higher numbers are older."""
    which = sql.SQL("AND node_id LIKE {}").format(only_node) if table == "node_executions" else sql.SQL("")
    columns = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND column_name <> 'id'", (table,)
    )
    names = [str(name) for (name,) in columns.fetchall()]
    connection.execute(
        sql.SQL(
            "INSERT INTO {table} ({names}) SELECT {values} FROM {table}, generate_series({first}, {last}) AS copy"
            " WHERE execution_name = {model} {which} ORDER BY copy DESC"
        ).format(
            table=sql.Identifier(table),
            names=sql.SQL(", ").join(sql.Identifier(name) for name in names),
            values=sql.SQL(", ").join(_value(name, values) for name in names),
            first=numbers.start,
            last=numbers.stop - 1,
            model=STAND_IN,
            which=which,
        )
    )


def _value(name: str, values: Mapping[str, str]) -> sql.Composable:
    if name in _TIMES:
        return _SECONDS.format(sql.Identifier(name))
    return sql.SQL(values[name]) if name in values else sql.Identifier(name)
