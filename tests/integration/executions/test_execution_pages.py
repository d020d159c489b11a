"""Pages of executions and nodes: indexes serve the lists of clients, and no value breaks a list."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import product
from typing import Any

import psycopg
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier

from services.executions.store import execution_lists, node_executions, task_executions
from services.kit.db import database as db
from services.kit.db.database import Connection, Database
from services.kit.errors import InvalidArgument
from services.kit.lists import pages as row_pages
from services.kit.lists.operators import OPERATORS
from services.kit.lists.query import Listing, ListQuery
from tests.support.parts import Parts
from tests.support.query_plans import Statement, assert_reads_only_the_page, plan_steps, rows_seen

STORED, NODES = 20_000, 3_000
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = NamedEntityIdentifier(project="p", domain="d")
RUN = WorkflowExecutionIdentifier(project="p", domain="d", name="run")
NODE = NodeExecutionIdentifier(execution_id=RUN, node_id="n1")
NEWEST, OLDEST = 0, 1
# Rows that a page and its offset may read; the whole table has a hundred times as many.
MOST_ROWS = 2 * 100
_FILL = f"""
INSERT INTO executions (created_at, execution_created_at, execution_project, execution_domain, execution_name, spec,
    closure, phase, mode, "user", workflow_name, launch_plan_name, task_name, state)
SELECT moment, moment - interval '1 day', 'p', 'd', 'x' || number, '', repeat('m', 300)::bytea,
    CASE mod(number, 50) WHEN 0 THEN 'FAILED' ELSE 'SUCCEEDED' END, CASE mod(number, 50) WHEN 0 THEN 0 ELSE 1 END,
    'u' || mod(number, 50), 'w' || mod(number, 50), CASE WHEN mod(number, 50) > 5 THEN 'l' || mod(number, 50) END,
    CASE WHEN mod(number, 50) < 5 THEN 't' END, (mod(number, 10) = 0)::int
FROM (SELECT number, %(moment)s::timestamptz + number * interval '1 second' AS moment
      FROM generate_series(1, {STORED}) AS number) AS made;
INSERT INTO execution_tags (execution_project, execution_domain, execution_name, key, value)
SELECT 'p', 'd', 'x' || number, 'a', '' FROM generate_series(1, {STORED}, 7) AS number;
INSERT INTO node_executions (created_at, execution_project, execution_domain, execution_name, node_id, closure,
    node_execution_metadata, parent_id)
SELECT %(moment)s::timestamptz + number * interval '1 second', 'p', 'd',
    CASE WHEN number <= {NODES} THEN 'run' ELSE 'x' || number / 3 END, 'n' || number, repeat('m', 300)::bytea, '',
    CASE WHEN number > {NODES} AND mod(number, 3) = 0 THEN 1 END
FROM generate_series(1, {STORED}) AS number
"""


@pytest.fixture(scope="module")
def url(parts: Parts) -> str:
    made = parts.migrated_database("executions", "execution_pages")
    with psycopg.connect(made, autocommit=True) as connection:
        for statement in _FILL.split(";"):
            connection.execute(statement, {"moment": BEGINNING})
        connection.execute("VACUUM (ANALYZE)")
    return made


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    opened = await Database.open(url)
    async with opened.read() as connection:
        yield connection
    await opened.close()


def planned(
    listing: Listing, filters: str = "", sort: tuple[str, int] | None = ("created_at", NEWEST), offset: int = 0
) -> ListQuery:
    key, direction = sort or (None, NEWEST)
    return listing.query(
        name="x", limit=100, token=str(offset), filters=filters, sort_key=key, sort_direction=direction
    )


@pytest.mark.parametrize("sort", [("created_at", NEWEST), ("created_at", OLDEST)])
@pytest.mark.parametrize(
    "also", ["", "+eq(mode,1)", "+eq(user,u0)+lt(created_at,2026-01-01T02:00:00Z)", "+eq(admin_tag.name,a)"]
)
async def test_page_of_several_phases_is_part_of_the_whole_list(
    connection: Connection, also: str, sort: tuple[str, int]
) -> None:
    filters = f"value_in(phase,FAILED;SUCCEEDED;FAILED;RUNNING)+value_in(state,0;1){also}"
    query = execution_lists.LISTING.query(
        name="x", limit=3 * STORED, token="", filters=filters, sort_key=sort[0], sort_direction=sort[1]
    )
    whole = await execution_lists.find(connection, query, SCOPE)
    assert len(whole) > 100
    for offset in (0, 70, 1_900, 1_901):
        page = await execution_lists.find(connection, planned(execution_lists.LISTING, filters, sort, offset), SCOPE)
        assert [row.name for row in page] == [row.name for row in whole[offset : offset + 100]]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[Statement]:
    """Return the list to which the statements of lists are appended."""
    executed: list[Statement] = []

    async def fetch_text(connection: Connection, text: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        executed.append((text, parameters))
        return await db.fetch_text(connection, text, parameters)

    monkeypatch.setattr(row_pages, "fetch_text", fetch_text)
    return executed


async def cost(connection: Connection, statement: Statement) -> tuple[set[str], int]:
    """Return the indexes that a statement uses, and the most rows that one of its steps reads."""
    steps = await plan_steps(connection, statement)
    return {step["Index Name"] for step in steps if "Index Name" in step}, max(map(rows_seen, steps))


@pytest.mark.parametrize(
    ("filters", "sort", "index"),
    [
        ("", ("created_at", NEWEST), "executions_by_creation"),
        ("", ("created_at", OLDEST), "executions_by_creation"),
        ("", ("execution_created_at", NEWEST), "executions_by_execution_creation"),
        ("eq(state,1)", ("created_at", NEWEST), "executions_by_creation"),
        ("eq(state,1)", ("execution_created_at", NEWEST), "executions_by_execution_creation"),
        ("gte(created_at,2026-01-01T01:00:00Z)", ("created_at", NEWEST), "executions_by_creation"),
        ("eq(phase,FAILED)+value_in(state,0;1)", ("created_at", NEWEST), "executions_by_phase"),
        ("value_in(phase,FAILED;RUNNING)+value_in(state,0;1)", ("created_at", NEWEST), "executions_by_phase"),
        (
            f"value_in(phase,{';'.join(['FAILED'] * 50)})+value_in(state,0;1)",
            ("created_at", NEWEST),
            "executions_by_phase",
        ),
        ("value_in(phase,FAILED;ABORTED)+value_in(state,0;1)", ("created_at", OLDEST), "executions_by_phase"),
        ("eq(mode,MANUAL)+value_in(state,0;1)", ("created_at", NEWEST), "executions_by_mode"),
        ("eq(user,u7)", ("created_at", NEWEST), "executions_by_user"),
        ("eq(workflow.name,w7)", ("created_at", NEWEST), "executions_by_workflow"),
        ("eq(launch_plan.name,l7)", ("created_at", NEWEST), "executions_by_launch_plan"),
        ("eq(task.name,t)", ("created_at", NEWEST), "executions_by_task"),
    ],
)
async def test_index_serves_lists_of_executions(
    *,
    connection: Connection,
    statements: list[Statement],
    filters: str,
    sort: tuple[str, int],
    index: str,
) -> None:
    await execution_lists.find(connection, planned(execution_lists.LISTING, filters, sort), SCOPE)
    indexes, rows = await cost(connection, statements[-1])
    assert index in indexes
    assert rows <= MOST_ROWS


@pytest.mark.parametrize("sort", [("created_at", OLDEST), ("created_at", NEWEST), None])
async def test_index_serves_a_level_of_nodes(
    connection: Connection, statements: list[Statement], sort: tuple[str, int] | None
) -> None:
    page = planned(node_executions.LISTING, sort=sort)
    await node_executions.find(connection, page, RUN)
    indexes, rows = await cost(connection, statements[-1])
    assert "node_executions_of_top_level" in indexes
    assert rows <= MOST_ROWS


@pytest.mark.parametrize(
    ("filters", "key"),
    [
        ("", "created_at"),
        ("", "execution_created_at"),
        ("gte(created_at,2026-01-01T00:00:00Z)", "created_at"),
        ("eq(mode,1)", "created_at"),
        ("eq(phase,SUCCEEDED)", "created_at"),
    ],
)
async def test_page_of_executions_at_an_offset_reads_only_its_rows(
    connection: Connection, statements: list[Statement], filters: str, key: str
) -> None:
    query = planned(execution_lists.LISTING, filters, (key, NEWEST), offset=9_000)
    names = [row.name for row in await execution_lists.find(connection, query, SCOPE)]
    listed = [f"x{number}" for number in range(STORED, 0, -1) if number % 10]
    assert names == listed[9_000:9_100]
    await assert_reads_only_the_page(connection, statements[-1])


@pytest.mark.parametrize(
    "filters", ["eq(user,u7)", "eq(workflow.name,w7)", "eq(launch_plan.name,l7)", "eq(task.name,t)"]
)
async def test_page_of_one_entitys_executions_at_an_offset_reads_only_its_rows(
    connection: Connection, statements: list[Statement], filters: str
) -> None:
    query = planned(execution_lists.LISTING, filters, offset=250)
    assert len(await execution_lists.find(connection, query, SCOPE)) == 100
    await assert_reads_only_the_page(connection, statements[-1])


async def test_page_of_nodes_at_an_offset_reads_only_its_rows(
    connection: Connection, statements: list[Statement]
) -> None:
    rows = await node_executions.find(connection, planned(node_executions.LISTING, sort=None, offset=2_000), RUN)
    assert [row.node_id for row in rows] == [f"n{number}" for number in range(2_001, 2_101)]
    await assert_reads_only_the_page(connection, statements[-1])


async def test_former_release_reads_a_new_count_of_archivings_every_time(connection: Connection) -> None:
    count = "SELECT changes FROM execution_state_changes WHERE execution_project = 'p' AND execution_domain = 'd'"
    counts = [await db.fetch_text(connection, count, {}) for _ in range(3)]
    assert len({changes for ((changes,),) in counts}) == len(counts)


VALUES = (
    *("1", "-1", "x", "é", "%", "\\", "null", "\0", "1;2", "x;y", "1e400", "NaN", "9223372036854775808", "2147483648"),
    *("2026-01-01T00:00:00Z", "2026-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "infinity"),
    *("1h", "9999999999h", "RUNNING", "EXECUTION_ARCHIVED", "MANUAL"),
)


@pytest.mark.parametrize("listing", [execution_lists.LISTING, node_executions.LISTING, task_executions.LISTING])
async def test_no_value_of_any_column_breaks_a_list(connection: Connection, listing: Listing) -> None:
    # Lists of few rows, which are all compared with the value.
    single = NamedEntityIdentifier(project="p", domain="d", name="x1")
    few = WorkflowExecutionIdentifier(project="p", domain="d", name="x1001")
    finds: dict[str, Callable[[ListQuery], Awaitable[Any]]] = {
        "execution": lambda query: execution_lists.find(connection, query, single),
        "node_execution": lambda query: node_executions.find(connection, query, few),
        "task_execution": lambda query: task_executions.find(connection, query, NODE),
    }
    columns = {(listing.primary.columns[name].value_type, type(listing.primary.columns[name].expression.type)): name
               for name in listing.primary.columns}  # fmt: skip
    joined = [f"{prefix}.{name}" for prefix, entity in listing.joined.items() for name in list(entity.columns)[-2:]]
    accepted = 0
    for column, function, value in product([*columns.values(), *joined], OPERATORS, VALUES):
        try:
            query = planned(listing, f"{function}({column},{value})")
        except InvalidArgument:
            continue
        await finds[listing.prefix](query)
        accepted += 1
    for key in listing.primary.columns:
        await finds[listing.prefix](planned(listing, sort=(key, OLDEST)))
    assert accepted > len(VALUES)
