"""An index serves whatever clients ask the registry for, at every size of its tables."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier
from flyteidl.core.identifier_pb2 import ResourceType

from services.kit import db, row_pages
from services.kit.db import Connection, Database
from services.kit.listing import Listing
from services.kit.positions import Positions
from services.registry.store import (
    descriptions,
    keys,
    launch_plans,
    listings,
    name_pages,
    names,
    tasks,
    workflows,
)
from tests.support.parts import Parts

VERSIONS = 20_000
# Half of one name and the others of their own, as many active as there are names, few names archived: what plans are
# hardest for.
_FILL = """
INSERT INTO workflows (created_at, updated_at, project, domain, name, version, short_description, digest,
    request_digest, remote_closure_identifier, closure_size, message)
SELECT moment, moment, 'p', 'd', name, version, '', '', '', '', 0, repeat('m', 300)::bytea FROM made;
INSERT INTO tasks (created_at, updated_at, project, domain, name, version, type, short_description, digest, message)
SELECT moment, moment, 'p', 'd', name, version, 'python', '', '', repeat('m', 300)::bytea FROM made;
INSERT INTO launch_plans (created_at, updated_at, project, domain, name, version, workflow_id, state, schedule_type,
    digest, spec, closure)
SELECT moment, moment, 'p', 'd', name, version, workflows.id, made.state, 'NONE', '', repeat('m', 300)::bytea, ''
FROM made JOIN workflows USING (name, version);
INSERT INTO named_entities (created_at, updated_at, resource_type, project, domain, name, state)
SELECT min(moment), now(), kind, 'p', 'd', name, CASE WHEN name LIKE '%777' THEN 1 ELSE 0 END
FROM made, generate_series(1, 3) AS kind GROUP BY kind, name;
INSERT INTO description_entities (created_at, updated_at, resource_type, project, domain, name, version,
    short_description, long_description, link, message)
SELECT moment, moment, kind, 'p', 'd', name, version, '', '', '', repeat('m', 300)::bytea
FROM made, generate_series(1, 2) AS kind;
"""
_MADE = f"""
CREATE TEMPORARY TABLE made AS
SELECT 'v' || number AS version, '2026-01-01'::timestamptz + number * interval '1 second' AS moment,
    CASE mod(number, 2) WHEN 0 THEN 'often' ELSE 'n' || number END AS name, mod(number, 2) AS state
FROM generate_series(1, {VERSIONS}) AS number
"""
NEWEST = ("created_at", 0)
OF_WORKFLOW = "eq(workflow.project,p)+eq(workflow.domain,d)+eq(workflow.name,often)"
OF_ITS_VERSION = f"{OF_WORKFLOW}+eq(workflow.version,v500)"
DESCRIBED = descriptions.listing_of(ResourceType.WORKFLOW)
# What a page of a list, what it skips and the names of its versions may cost; everything there is takes far more.
MOST_ROWS = 3 * 100


@pytest.fixture(scope="module")
def url(parts: Parts) -> str:
    """A registry with many versions."""
    made = parts.migrated_database("registry", "registry_indexes")
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute(_MADE)
        for statement in _FILL.split(";"):
            connection.execute(statement)
        connection.execute("VACUUM (ANALYZE)")
    return made


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    opened = await Database.open(url)
    async with opened.read() as connection:
        yield connection
    await opened.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The statements that lists run, as they run."""
    statements: list[tuple[str, dict[str, Any]]] = []

    async def fetch_text(connection: Connection, text: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        statements.append((text, parameters))
        return await db.fetch_text(connection, text, parameters)

    for module in (row_pages, name_pages):
        monkeypatch.setattr(module, "fetch_text", fetch_text)
    return statements


async def plan(connection: Connection, text: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """How a statement is carried out, with its values."""
    cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", parameters, prepare=False)
    ((found,),) = await cursor.fetchall()
    return (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]  # type: ignore[no-any-return]


def steps(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield of
    for step in of.get("Plans", ()):
        yield from steps(step)


@pytest.mark.parametrize(
    ("listing", "name", "filters", "sort", "index"),
    [
        (listings.TASKS, "", "", NEWEST, "tasks_of_domain"),
        (listings.TASKS, "", "", None, "tasks_of_domain"),
        (listings.TASKS, "", "", ("created_at", 1), "tasks_of_domain"),
        (listings.TASKS, "often", "", NEWEST, "tasks_of_name"),
        (listings.TASKS, "n1", "", NEWEST, "tasks_of_name"),
        (listings.TASKS, "", "eq(name,often)", NEWEST, "tasks_of_name"),
        (listings.TASKS, "", "eq(version,v500)", NEWEST, "tasks_of_version"),
        (listings.TASKS, "", "value_in(type,python;spark)", NEWEST, "tasks_of_domain"),
        (listings.WORKFLOWS, "often", "", NEWEST, "workflows_of_name"),
        (listings.WORKFLOWS, "", "", NEWEST, "workflows_of_domain"),
        (listings.LAUNCH_PLANS, "often", "", NEWEST, "launch_plans_of_name"),
        (listings.LAUNCH_PLANS, "", "", NEWEST, "launch_plans_of_domain"),
        (listings.LAUNCH_PLANS, "", OF_WORKFLOW, NEWEST, "launch_plans_of_workflow_name"),
        (listings.LAUNCH_PLANS, "", "eq(workflow.name,often)", NEWEST, "launch_plans_of_workflow_name"),
        (listings.LAUNCH_PLANS, "", OF_ITS_VERSION, NEWEST, "launch_plans_of_workflow_version"),
        (listings.LAUNCH_PLANS, "", f"{OF_WORKFLOW}+eq(state,1)", NEWEST, "launch_plans_active_of_workflow"),
        (listings.LAUNCH_PLANS, "", "eq(state,1)", NEWEST, "launch_plans_active_of_domain"),
        (listings.LAUNCH_PLANS, "active", "", NEWEST, "launch_plans_active_of_domain"),
        (names.WORKFLOW_NAMES, "", "", None, "named_entities_key"),
        (names.WORKFLOW_NAMES, "", "", ("name", 1), "named_entities_key"),
        (names.WORKFLOW_NAMES, "", "", ("name", 0), "named_entities_key"),
        (names.NAMED_ENTITIES, "", "", ("name", 1), "named_entities_key"),
        (names.NAMED_ENTITIES, "", "eq(state,1)", ("name", 1), "named_entities_of_state"),
        (names.NAMED_ENTITIES, "", "", NEWEST, "named_entities_by_creation"),
        (names.NAMED_ENTITIES, "", "not_like(name,.flytegen%)", ("created_at", 1), "named_entities_by_creation"),
        (names.NAMED_ENTITIES, "", "eq(state,0)", NEWEST, "named_entities_by_creation"),
        (names.WORKFLOW_NAMES, "", "", NEWEST, "named_entities_by_creation"),
        (listings.WORKFLOWS, "", "eq(state,0)", NEWEST, "workflows_of_domain"),
        (listings.WORKFLOWS, "", "eq(state,1)", NEWEST, "named_entities_of_state"),
        (listings.WORKFLOWS, "often", "eq(state,0)", NEWEST, "workflows_of_name"),
        (DESCRIBED, "", "", None, "description_entities_of_domain"),
        (DESCRIBED, "often", "", None, "description_entities_of_name"),
        (DESCRIBED, "", "", NEWEST, "description_entities_of_domain"),
    ],
)
async def test_a_page_is_read_by_an_index_and_no_row_beside_it(
    *,
    connection: Connection,
    asked: list[tuple[str, dict[str, Any]]],
    listing: Listing,
    name: str,
    filters: str,
    sort: tuple[str, int] | None,
    index: str,
) -> None:
    key, direction = sort or (None, 0)
    page = listing.plan(name="x", limit=100, token="", filters=filters, sort_key=key, sort_direction=direction)
    positions = Positions(lambda: datetime.now(UTC))
    if listing is listings.TASKS:
        await listings.find_tasks(connection, positions, page, "p", "d", name=name)
    elif listing is listings.WORKFLOWS:
        await listings.find_workflows(connection, positions, page, "p", "d", name=name)
    elif listing is listings.LAUNCH_PLANS:
        active = name == "active"
        await listings.find_launch_plans(
            connection, positions, page, "p", "d", name="" if active else name, active=active
        )
    elif listing is names.NAMED_ENTITIES:
        await names.find(connection, positions, page, ResourceType.WORKFLOW, project="p", domain="d")
    elif listing is DESCRIBED:
        where = NamedEntityIdentifier(project="p", domain="d", name=name)
        await descriptions.find(connection, positions, page, ResourceType.WORKFLOW, where)
    else:
        await names.find_ids(connection, positions, page, ResourceType.WORKFLOW, project="p", domain="d")
    (statement,) = asked
    found = list(steps(await plan(connection, *statement)))
    assert index in {step.get("Index Name") for step in found}
    touched = sum(
        (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step["Actual Loops"]
        for step in found
        if "Scan" in step["Node Type"] and "Subquery" not in step["Node Type"]
    )
    assert touched <= MOST_ROWS


@pytest.mark.parametrize("offset", [3000, 9000, 15000])
async def test_a_deep_page_is_come_to_again_without_walking(
    connection: Connection, asked: list[tuple[str, dict[str, Any]]], offset: int
) -> None:
    page = listings.TASKS.plan(name="x", limit=100, token=str(offset), filters="", sort_key=None)
    positions = Positions(lambda: datetime(2026, 2, 1, tzinfo=UTC))
    for _ in range(2):
        asked.clear()
        await listings.find_tasks(connection, positions, page, "p", "d", name="")
    rows = [sum(step["Actual Rows"] for step in steps(await plan(connection, *one))) for one in asked]
    assert sum(rows) <= 5 * MOST_ROWS


@pytest.mark.parametrize("offset", [3000, 9000])
async def test_a_deep_page_of_names_is_come_to_again_without_walking(
    connection: Connection, asked: list[tuple[str, dict[str, Any]]], offset: int
) -> None:
    page = names.WORKFLOW_NAMES.plan(name="x", limit=100, token=str(offset), filters="", sort_key=None)
    later = datetime.now(UTC) + timedelta(hours=1)
    positions = Positions(lambda: later)
    for _ in range(2):
        asked.clear()
        await names.find_ids(connection, positions, page, ResourceType.WORKFLOW, project="p", domain="d")
    rows = [sum(step["Actual Rows"] for step in steps(await plan(connection, *one))) for one in asked]
    assert sum(rows) <= 5 * MOST_ROWS


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (tasks._GET, "tasks_key"),
        (workflows._GET, "workflows_key"),
        (launch_plans._GET, "launch_plans_key"),
        (launch_plans._SPEC, "launch_plans_key"),
        (launch_plans._GET_ACTIVE, "launch_plans_active"),
        (launch_plans._LOCK_NAME, "named_entities_key"),
        (names._GET, "named_entities_key"),
        (descriptions._GET, "description_entities_key"),
        *((f"SELECT id FROM {table} WHERE {keys.WHERE_KEY}", f"{table}_key") for table in ("tasks", "workflows")),
    ],
)
async def test_one_version_is_found_by_its_key_even_when_the_plan_is_for_any_name(
    connection: Connection, statement: str, index: str
) -> None:
    key = {"project": "p", "domain": "d", "name": "often", "version": "v500", "resource_type": "2"}
    text = statement
    for number, part in enumerate(key, start=1):
        text = text.replace(f"%({part})s", f"${number}")
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE one (text, text, text, text, int) AS {text}")
    values = ", ".join(f"'{value}'" for value in key.values())
    cursor = await connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE one ({values})")
    ((found,),) = await cursor.fetchall()
    used = {step.get("Index Name") for step in steps(found[0]["Plan"])} - {None}
    assert used == {index}
