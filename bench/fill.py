"""History for the database of a local sandbox, so the load runs on a store that has been in use for long.

The `fill` modules are the only part of the load generator that depends on the inside of a server: millions of events
through the API would take an hour. Rows are copies of those of an execution that was really played, with other names.
"""

import sys
from pathlib import Path

import psycopg
from psycopg import sql

_URL = "FLYTEPLANE_DATABASE_URL="
# Rows of one statement: a second or so, after which progress is printed.
_NODES_AT_ONCE = 100_000
# Of so many executions with their nodes, one has copies of its tasks too, which are as many rows again.
_WITH_TASKS = 5


def fill(folder: Path, execution: str, nodes: int) -> None:
    """Copy `execution` of the sandbox in `folder` until `nodes` node executions are stored."""
    with psycopg.connect(database(folder, "executions"), autocommit=True) as connection:
        # Rows that a crash loses are made again.
        connection.execute("SET synchronous_commit = off")
        each = _count(connection, "node_executions", execution)
        missing = max(0, nodes - _count(connection, "node_executions"))
        copies = -(-missing // each)
        step = max(1, _NODES_AT_ONCE // each)
        for first in range(0, copies, step):
            last = min(first + step, copies)
            for table in ("executions", "node_executions"):
                _copy(connection, table, execution, range(first, last))
            _copy(connection, "task_executions", execution, range(first, first + (last - first) // _WITH_TASKS))
            sys.stdout.write(f"\rstored: {each * last:,} of {missing:,} node executions")
            sys.stdout.flush()
        sys.stdout.write("\n")
        for table in ("executions", "node_executions", "task_executions"):
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))


def database(folder: Path, service: str) -> str:
    """Return the URL of the database of `service` in the sandbox in `folder`."""
    lines = (folder / "env" / f"{service}.env").read_text().splitlines()
    return next(line.removeprefix(_URL).strip("'") for line in lines if line.startswith(_URL))


def _count(connection: psycopg.Connection[tuple[int, ...]], table: str, execution: str = "") -> int:
    where = sql.SQL("WHERE execution_name = {}").format(execution) if execution else sql.SQL("")
    statement = sql.SQL("SELECT count(*) FROM {} {}").format(sql.Identifier(table), where)
    (count,) = connection.execute(statement).fetchone() or (0,)
    return count


def _copy(connection: psycopg.Connection[tuple[int, ...]], table: str, execution: str, numbers: range) -> None:
    """Copy the rows of `execution` once for each of `numbers`, from which the copies get their names."""
    names = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND column_name NOT IN ('id')",
        (table,),
    ).fetchall()
    columns = [sql.Identifier(str(name)) for (name,) in names if str(name) != "execution_name"]
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}, execution_name)"
        " SELECT {columns}, 'h' || lpad(copy::text, 19, '0')"
        " FROM {table}, generate_series({first}, {last}) AS copy WHERE execution_name = {execution}"
    ).format(
        table=sql.Identifier(table),
        columns=sql.SQL(", ").join(columns),
        first=numbers.start,
        last=numbers.stop - 1,
        execution=execution,
    )
    connection.execute(statement)
