"""A page deep in a list is what walking there would find, whatever is registered meanwhile."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier
from flyteidl.core.identifier_pb2 import ResourceType

from services.kit.db import Connection, Database
from services.kit.listing import Listing, Plan
from services.kit.positions import Positions
from services.registry.store import descriptions, listings, names
from tests.support.parts import Parts

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
STORED = 6000
NAMES = ("often", "seldom")
TYPES = ("python", "spark")

_ADD_TASKS = """
INSERT INTO tasks (created_at, updated_at, project, domain, name, version, type, short_description, digest, message)
SELECT moment, moment, 'p', 'd', CASE mod(number, 10) WHEN 0 THEN 'seldom' ELSE 'often' END, number::text,
    CASE mod(number, 3) WHEN 0 THEN 'spark' ELSE 'python' END, '', '', number::text::bytea
FROM unnest(%(numbers)s::int[], %(moments)s::timestamptz[]) AS added (number, moment)
"""
_ADD_PLANS = """
WITH made AS (
    INSERT INTO workflows (created_at, updated_at, project, domain, name, version, short_description, digest,
        request_digest, remote_closure_identifier, closure_size, message)
    VALUES (%(moment)s, %(moment)s, 'p', 'd', 'w', '1', '', '', '', '', 0, '') RETURNING id
)
INSERT INTO launch_plans (created_at, updated_at, project, domain, name, version, workflow_id, state, schedule_type,
    digest, spec, closure)
SELECT %(moment)s::timestamptz + number * interval '1 second', %(moment)s, 'p', 'd', 'n' || number, '1', made.id, 1,
    'NONE', '', '', '' FROM made, generate_series(1, %(plans)s) AS number
"""
_ADD_DESCRIPTIONS = """
INSERT INTO description_entities (created_at, updated_at, resource_type, project, domain, name, version,
    short_description, long_description, link, message)
SELECT %(moment)s::timestamptz + number * interval '1 second', %(moment)s, kind, 'p', 'd', 'n', number::text, '', '',
    '', number::text::bytea
FROM generate_series(1, %(versions)s) AS number, generate_series(1, 2) AS kind
"""
_ADD_NAMES = """
INSERT INTO named_entities (created_at, updated_at, resource_type, project, domain, name)
SELECT %(moment)s, %(moment)s, kind, 'p', 'd', name
FROM unnest(%(names)s::text[]) AS name, unnest(ARRAY[1, 2]) AS kind
"""


@dataclass
class Tasks:
    """The tasks of a database, and what a replica knows of where they are."""

    connection: Connection
    now: datetime
    rows: list[tuple[datetime, int]]

    def __post_init__(self) -> None:
        self.positions = Positions(lambda: self.now)

    async def add(self, number: int, *, late: timedelta = timedelta()) -> None:
        """Register that many, the first of them having begun `late` before now."""
        first = len(self.rows) + 1
        added = [(self.now - late + timedelta(microseconds=at), first + at) for at in range(number)]
        moments, numbers = [moment for moment, _ in added], [number for _, number in added]
        await self.connection.execute(_ADD_TASKS, {"numbers": numbers, "moments": moments})
        self.rows += added

    def expected(self, plan: Plan, name: str, kind: str) -> list[bytes]:
        """The page as sorting everything finds it."""
        found = [
            number
            for _, number in sorted(self.rows, reverse=True)
            if (not name or name == NAMES[number % 10 == 0])
            and (not kind or kind == ("python", "spark")[number % 3 == 0])
        ]
        return [str(number).encode() for number in found[plan.offset : plan.offset + plan.limit]]


@pytest.fixture
async def connection(parts: Parts) -> AsyncIterator[Connection]:
    """A connection to an empty registry."""
    url = parts.migrated_database("registry", "registry_deep_pages")
    db = await Database.open(url)
    async with db.read() as connection:
        yield connection
    await db.close()


def plan_of(listing: Listing, offset: int, filters: str = "", limit: int = 50) -> Plan:
    return listing.plan(
        name="List", limit=limit, token=str(offset), filters=filters, sort_key="created_at", sort_direction=0
    )


@pytest.mark.parametrize("seed", range(3))
async def test_a_deep_page_is_what_walking_there_finds(connection: Connection, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # of a test
    tasks = Tasks(connection, BEGINNING, [])
    await tasks.add(STORED)
    for _ in range(150):
        tasks.now += timedelta(seconds=chance.choice((0, 1, 5, 70)))
        if chance.random() < 0.6:
            await tasks.add(chance.choice((1, 7, 400)), late=timedelta(seconds=chance.choice((0, 30))))
        name, kind = chance.choice((("", ""), ("often", ""), ("", "python"), ("often", "spark")))
        filters = f"value_in(type,{kind})" if kind else ""
        plan = plan_of(listings.TASKS, chance.randrange(0, len(tasks.rows) + 100), filters)
        found = await listings.find_tasks(connection, tasks.positions, plan, "p", "d", name=name)
        assert found == tasks.expected(plan, name, kind)


async def test_walking_from_page_to_page_meets_every_version_once(connection: Connection) -> None:
    tasks = Tasks(connection, BEGINNING, [])
    await tasks.add(STORED)
    tasks.now += timedelta(hours=1)
    met: list[bytes] = []
    while page := await listings.find_tasks(
        connection, tasks.positions, plan_of(listings.TASKS, len(met), limit=700), "p", "d", name=""
    ):
        met += page
    assert met == [str(number).encode() for number in range(STORED, 0, -1)]


async def test_two_replicas_give_the_same_page(connection: Connection) -> None:
    tasks = Tasks(connection, BEGINNING, [])
    await tasks.add(STORED)
    tasks.now += timedelta(hours=1)
    plan = plan_of(listings.TASKS, 5000)
    await listings.find_tasks(connection, tasks.positions, plan, "p", "d", name="")
    await tasks.add(30)
    other = Positions(lambda: tasks.now)
    one = await listings.find_tasks(connection, tasks.positions, plan, "p", "d", name="")
    assert one == await listings.find_tasks(connection, other, plan, "p", "d", name="")


async def test_a_deep_page_of_active_launch_plans_follows_their_states(connection: Connection) -> None:
    await connection.execute(_ADD_PLANS, {"moment": BEGINNING, "plans": 3000})
    positions = Positions(lambda: BEGINNING + timedelta(days=1))
    plan = plan_of(listings.LAUNCH_PLANS, 2990, "eq(state,1)+eq(workflow.name,w)")

    async def rows() -> int:
        return len(await listings.find_launch_plans(connection, positions, plan, "p", "d"))

    assert await rows() == 10
    await connection.execute("UPDATE launch_plans SET state = 0 WHERE name IN ('n2999', 'n2500', 'n1')")
    assert await rows() == 7


async def test_deep_pages_of_descriptions_are_of_the_type_asked_for_and_come_to_again(connection: Connection) -> None:
    await connection.execute(_ADD_DESCRIPTIONS, {"moment": BEGINNING, "versions": STORED})
    positions = Positions(lambda: BEGINNING + timedelta(days=1))
    where = NamedEntityIdentifier(project="p", domain="d")
    for kind, each in ((ResourceType.TASK, 1), (ResourceType.UNSPECIFIED, 2), (ResourceType.WORKFLOW, 1)):
        for offset in (5000, 4000, 5000):
            plan = plan_of(descriptions.listing_of(kind), offset)
            found = await descriptions.find(connection, positions, plan, kind, where)
            assert found == [str(STORED - at // each).encode() for at in range(offset, offset + 50)]


@pytest.mark.parametrize("seed", range(3))
async def test_a_deep_page_of_names_is_what_walking_there_finds(connection: Connection, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # of a test
    now = BEGINNING
    positions = Positions(lambda: now)
    stored: set[str] = set()

    async def add(number: int, late: float = 0) -> None:
        new = {f"{chance.randrange(10**9):09d}" for _ in range(number)} - stored
        moment = now - timedelta(seconds=late)
        await connection.execute(_ADD_NAMES, {"moment": moment, "names": sorted(new)})
        stored.update(new)

    await add(STORED)
    for _ in range(150):
        now += timedelta(seconds=chance.choice((0, 1, 5, 70)))
        if chance.random() < 0.6:
            await add(chance.choice((1, 7, 400)), chance.choice((0, 30)))
        beyond = chance.choice(("", "500000000"))
        offset = chance.randrange(0, len(stored) + 100)
        filters = f"gt(name,{beyond})" if beyond else ""
        plan = names.TASK_NAMES.plan(
            name="List", limit=50, token=str(offset), filters=filters, sort_key="name", sort_direction=1
        )
        expected = [name for name in sorted(stored) if name > beyond][offset : offset + 50]
        ids = await names.find_ids(connection, positions, plan, ResourceType.TASK, project="p", domain="d")
        assert [name for _, _, name in ids] == expected
        listed = await names.find(connection, positions, plan, ResourceType.TASK, project="p", domain="d")
        assert [entity.id.name for entity in listed.entities] == expected
