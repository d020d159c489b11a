"""All reads of clients use an index, at every size of the registry's tables."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier
from flyteidl.core.identifier_pb2 import ResourceType

from services.kit.db import database as db
from services.kit.db.database import Connection, Database
from services.kit.lists import pages as row_pages
from services.kit.lists.query import Listing, ListQuery
from services.registry.store import (
    descriptions,
    keys,
    launch_plans,
    listings,
    names,
    tasks,
    workflows,
)
from tests.support.parts import Parts
from tests.support.query_plans import Statement, assert_reads_only_the_page, plan_steps, rows_seen, steps_of

VERSIONS = 20_000
# Half of one name and the others of their own, as many active as there are names, few names archived: the hardest case
# for the query planner.
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
# Rows that may be read for a page, the rows it skips and the names of its versions; reading all rows takes far more.
MOST_ROWS = 3 * 100


@pytest.fixture(scope="module")
def url(parts: Parts) -> str:
    """Return the URL of a registry's database with many versions."""
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
def statements(monkeypatch: pytest.MonkeyPatch) -> list[Statement]:
    """Return the list of statements that lists execute from now on."""
    executed: list[Statement] = []

    async def fetch_text(connection: Connection, text: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        executed.append((text, parameters))
        return await db.fetch_text(connection, text, parameters)

    for module in (row_pages, names):
        monkeypatch.setattr(module, "fetch_text", fetch_text)
    return executed


async def find(connection: Connection, listing: Listing, page: ListQuery, name: str = "") -> Sequence[Any]:
    """Read a page of `listing`: of any name for an empty one, of active launch plans for the name "active"."""
    if listing is listings.TASKS:
        return await listings.find_tasks(connection, page, "p", "d", name=name)
    if listing is listings.WORKFLOWS:
        return await listings.find_workflows(connection, page, "p", "d", name=name)
    if listing is listings.LAUNCH_PLANS:
        active = name == "active"
        return await listings.find_launch_plans(connection, page, "p", "d", name="" if active else name, active=active)
    if listing is names.NAMED_ENTITIES:
        found = await names.find(connection, page, ResourceType.WORKFLOW, project="p", domain="d")
        return found.entities
    if listing is DESCRIBED:
        named = NamedEntityIdentifier(project="p", domain="d", name=name)
        return await descriptions.find(connection, page, ResourceType.WORKFLOW, named)
    return await names.find_ids(connection, page, ResourceType.WORKFLOW, project="p", domain="d")


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
async def test_page_is_read_by_an_index_without_other_rows(
    *,
    connection: Connection,
    statements: list[Statement],
    listing: Listing,
    name: str,
    filters: str,
    sort: tuple[str, int] | None,
    index: str,
) -> None:
    key, direction = sort or (None, 0)
    page = listing.query(name="x", limit=100, token="", filters=filters, sort_key=key, sort_direction=direction)
    await find(connection, listing, page, name)
    (statement,) = statements
    steps = await plan_steps(connection, statement)
    assert index in {step.get("Index Name") for step in steps}
    rows_read = sum(
        rows_seen(step) for step in steps if "Scan" in step["Node Type"] and "Subquery" not in step["Node Type"]
    )
    assert rows_read <= MOST_ROWS


@pytest.mark.parametrize(
    ("listing", "name", "filters", "sort"),
    [
        (listings.TASKS, "", "", NEWEST),
        (listings.TASKS, "often", "", NEWEST),
        (listings.TASKS, "", "value_in(type,python;spark)", NEWEST),
        (listings.WORKFLOWS, "", "", NEWEST),
        (listings.LAUNCH_PLANS, "often", "", NEWEST),
        (listings.LAUNCH_PLANS, "active", "", NEWEST),
        (names.WORKFLOW_NAMES, "", "", None),
        (names.NAMED_ENTITIES, "", "eq(state,0)", ("name", 1)),
        (DESCRIBED, "", "", NEWEST),
    ],
)
async def test_page_at_an_offset_reads_only_its_own_rows(
    *,
    connection: Connection,
    statements: list[Statement],
    listing: Listing,
    name: str,
    filters: str,
    sort: tuple[str, int] | None,
) -> None:
    key, direction = sort or (None, 0)

    def query(offset: int, limit: int) -> ListQuery:
        return listing.query(
            name="x", limit=limit, token=str(offset), filters=filters, sort_key=key, sort_direction=direction
        )

    page = await find(connection, listing, query(9_000, 100), name)
    await assert_reads_only_the_page(connection, statements[-1])
    whole = await find(connection, listing, query(0, VERSIONS), name)
    assert list(page) == list(whole[9_000:9_100])


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
async def test_version_is_found_by_its_key_in_a_generic_plan(
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
    used = {step.get("Index Name") for step in steps_of(found[0]["Plan"])} - {None}
    assert used == {index}
