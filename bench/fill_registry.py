"""History for the registry of a local sandbox, so lists run over as many rows as after years of registrations.

Rows are copies of a task, a workflow and a launch plan that were registered through the API, with other names,
versions and times, also in the stored messages; so every copy reads back as an entity of its own. Only digests and the
compiled workflow in the object store stay those of the model.

Half of the copies are versions of one name, the other half have a name each: long histories and long lists of names.
Every other launch plan of the second half is active.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from bench.fill import database

# Of the model; names and versions of copies have the same length, so they fit into its messages.
NAME, VERSION = "bench.filled.0000000", "v0000000"
_NUMBER_AT = -7
_TABLES = ("tasks", "workflows", "launch_plans")
# core.ResourceType of each table's names.
_RESOURCE_TYPES = {"tasks": 1, "workflows": 2, "launch_plans": 3}
# Rows of one statement: some seconds, after which progress is printed.
_AT_ONCE = 50_000
# Statistics of the largest table are made in a second or two.
_TIDY_SECONDS = 60

_KEY = ("project", "domain", "name", "version")
# The encoding of a Timestamp's seconds: a field of five bytes, seven bits each, until the year 3058.
_SECONDS = """
CREATE FUNCTION pg_temp.seconds(moment timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT '08' || string_agg(lpad(to_hex(bits | CASE digit WHEN 4 THEN 0 ELSE 128 END), 2, '0'), '' ORDER BY digit)
    FROM generate_series(0, 4) AS digit,
        LATERAL (SELECT floor(extract(epoch FROM moment))::bigint >> 7 * digit & 127 AS bits)
$$
"""
_REWRITE = """
CREATE FUNCTION pg_temp.rewritten(message bytea, name text, version text, before timestamptz, moment timestamptz)
RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT decode(replace(replace(replace(encode(message, 'hex'),
        encode({name}::bytea, 'hex'), encode(name::bytea, 'hex')),
        encode({version}::bytea, 'hex'), encode(version::bytea, 'hex')),
        pg_temp.seconds(before), pg_temp.seconds(moment)), 'hex')
$$
"""


def fill(folder: Path, versions: int) -> None:
    """Copy the models in the sandbox in `folder` until there are `versions` of each kind, themselves included."""
    with psycopg.connect(database(folder, "registry"), autocommit=True) as connection:
        # Rows that a crash loses are made again.
        connection.execute("SET synchronous_commit = off")
        connection.execute(_SECONDS)
        connection.execute(sql.SQL(_REWRITE).format(name=NAME, version=VERSION))
        for table in _TABLES:
            _copy_all(connection, table, versions)
        for table in (*_TABLES, "named_entities"):
            tidy(connection, table)


def filled_name(number: int) -> str:
    """Return the name of copy `number`: the model's, or one of its own."""
    return NAME if number % 2 else f"{NAME[:_NUMBER_AT]}{number:07}"


def tidy(connection: psycopg.Connection[tuple[object, ...]], table: str) -> None:
    """Vacuum a table until index-only scans need not visit it, as is usual for rows that are not new.

    For that no index may contain a dead row, and no transaction may still see the table as it was before; PostgreSQL's
    own ANALYZE is such a transaction.
    """
    until = time.monotonic() + _TIDY_SECONDS
    while time.monotonic() < until:
        connection.execute(sql.SQL("VACUUM (ANALYZE, INDEX_CLEANUP ON) {}").format(sql.Identifier(table)))
        pages = "SELECT relallvisible = relpages FROM pg_class WHERE oid = %s::regclass"
        if connection.execute(pages, (table,)).fetchone() == (True,):
            return
        time.sleep(1)
    raise SystemExit(f"PostgreSQL does not get {table} tidied up")


def _copy_all(connection: psycopg.Connection[tuple[object, ...]], table: str, versions: int) -> None:
    (stored,) = connection.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE starts_with(name, {})").format(sql.Identifier(table), NAME[:_NUMBER_AT])
    ).fetchone() or (0,)
    for first in range(int(str(stored)), versions, _AT_ONCE):
        last = min(first + _AT_ONCE, versions) - 1
        connection.execute(_copy_statement(_columns(connection, table), table, first, last))
        sys.stdout.write(f"\rstored: {last + 1:,} {table.replace('_', ' ')}")
        sys.stdout.flush()
    connection.execute(
        sql.SQL(
            "INSERT INTO named_entities (created_at, updated_at, resource_type, project, domain, name)"
            " SELECT min(created_at), min(created_at), {kind}, project, domain, name FROM {table}"
            " WHERE starts_with(name, {prefix}) GROUP BY project, domain, name ON CONFLICT DO NOTHING"
        ).format(kind=_RESOURCE_TYPES[table], table=sql.Identifier(table), prefix=NAME[:_NUMBER_AT])
    )
    sys.stdout.write("\n")


def _columns(connection: psycopg.Connection[tuple[object, ...]], table: str) -> list[tuple[str, str]]:
    """Return names and types of the columns that a copy needs."""
    columns = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s AND column_name <> 'id'",
        (table,),
    )
    return [(str(name), str(kind)) for name, kind in columns.fetchall()]


def _copy_statement(columns: Sequence[tuple[str, str]], table: str, first: int, last: int) -> sql.Composed:
    """Return SQL that copies the model of `table` once for each number; each copy is a second older than the last."""
    return sql.SQL(
        "INSERT INTO {table} ({names}) SELECT {values} FROM {table} AS model,"
        " LATERAL (SELECT model.created_at - number * interval '1 second' AS moment,"
        " (number % 4 = 0)::int AS state, 'v' || lpad(number::text, 7, '0') AS version,"
        " CASE number % 2 WHEN 1 THEN model.name ELSE {prefix} || lpad(number::text, 7, '0') END AS name"
        " FROM generate_series({last}::int, {first}::int, -1) AS number) AS copy"
        " WHERE model.name = {model_name} AND model.version = {model_version}"
    ).format(
        table=sql.Identifier(table),
        names=sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns),
        values=sql.SQL(", ").join(_value(name, kind) for name, kind in columns),
        prefix=NAME[:_NUMBER_AT],
        first=first,
        last=last,
        model_name=NAME,
        model_version=VERSION,
    )


def _value(name: str, kind: str) -> sql.Composable:
    """Return a copy's value in the column `name`. Workflow and launch plan of one number belong together."""
    if name in {"created_at", "updated_at"}:
        return sql.SQL("copy.moment")
    if name in {"name", "version", "state", "workflow_name", "workflow_version"}:
        return sql.Identifier("copy", name.removeprefix("workflow_"))
    if name == "workflow_id":
        same = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(
                sql.Identifier("workflows", part), sql.Identifier("model" if part in _KEY[:2] else "copy", part)
            )
            for part in _KEY
        )
        return sql.SQL("(SELECT id FROM workflows WHERE {})").format(same)
    if kind == "bytea" and "digest" not in name:
        return sql.SQL("pg_temp.rewritten({}, copy.name, copy.version, model.created_at, copy.moment)").format(
            sql.Identifier("model", name)
        )
    return sql.Identifier("model", name)
