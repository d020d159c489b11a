"""Pipelines of statements on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.kit.db.binary_parameters import (
    bigints,
    bools,
    byteas,
    ints,
    read_bool,
    read_int,
    read_text,
    read_timestamp,
    texts,
    timestamps,
)
from services.kit.db.database import Database
from services.kit.db.pipeline import Statement
from services.kit.errors import InvalidArgument, Unavailable
from tests.support.parts import Parts
from tests.support.waiting import until

# Executions after which the driver prepares a statement, and one more.
DRIVER_PREPARES = 6
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

INSERT = Statement("INSERT INTO numbers SELECT * FROM unnest(%(numbers)b::int[])")
COUNT = Statement("SELECT count(*) FROM numbers")
TWICE = Statement("SELECT %(text)b::text[], %(text)b::text[]")
BROKEN = Statement("SELECT 1 / 0")
SLEEP = Statement("SELECT pg_sleep(60)")
ASLEEP = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
WHO = Statement("SELECT pg_backend_pid()")
ROWS = Statement("""
SELECT * FROM unnest(%(texts)b::text[], %(byteas)b::bytea[], %(bools)b::bool[], %(ints)b::int[], %(bigints)b::bigint[],
                     %(timestamps)b::timestamptz[])
""")


@pytest.fixture(scope="module")
def url(parts: Parts) -> str:
    url = parts.new_database("test_pipeline")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE numbers (number int PRIMARY KEY)")
    return url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE numbers")
    opened = await Database.open(url, max_size=1)
    yield opened
    await opened.close()


async def count(database: Database) -> int:
    async with database.pipeline() as pipeline:
        answer = pipeline.put(COUNT)
        await pipeline.run()
    return read_int(answer.rows[0][0])


async def test_a_block_is_one_transaction(database: Database) -> None:
    async with database.pipeline() as pipeline:
        pipeline.put(INSERT, {"numbers": ints([1])})
        await pipeline.run()
        pipeline.put(INSERT, {"numbers": ints([2, 3])})
    assert await count(database) == 3


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_failed_statement_rolls_back_and_leaves_the_connection_usable(
    database: Database, awaited: bool
) -> None:
    behind = Statement("SELECT 2")

    async def fail() -> None:
        async with database.pipeline() as pipeline:
            pipeline.put(INSERT, {"numbers": ints([1])})
            pipeline.put(BROKEN)
            pipeline.put(behind)
            if awaited:
                await pipeline.run()

    with pytest.raises(InvalidArgument):
        await fail()
    async with database.pipeline() as pipeline:
        answers = [pipeline.put(behind) for _ in range(2)]
        await pipeline.run()
    assert [[read_int(value) for value in answer.rows[0]] for answer in answers] == [[2], [2]]
    assert await count(database) == 0


async def test_a_block_that_raises_is_rolled_back(database: Database) -> None:
    async def raise_late() -> None:
        async with database.pipeline() as pipeline:
            pipeline.put(INSERT, {"numbers": ints([1])})
            await pipeline.run()
            pipeline.put(INSERT, {"numbers": ints([2])})
            raise KeyError

    with pytest.raises(KeyError):
        await raise_late()
    assert await count(database) == 0


async def test_the_connection_is_in_the_transaction_between_two_runs(database: Database) -> None:
    async def use_both() -> int:
        async with database.pipeline() as pipeline:
            pipeline.put(INSERT, {"numbers": ints([1])})
            await pipeline.run()
            await pipeline.connection.execute("INSERT INTO numbers VALUES (%(number)s)", {"number": 2})
            answer = pipeline.put(COUNT)
            await pipeline.run()
            raise LookupError(read_int(answer.rows[0][0]))

    with pytest.raises(LookupError, match="2"):
        await use_both()
    assert await count(database) == 0


async def test_a_cancelled_pipeline_is_rolled_back(database: Database) -> None:
    async def wait() -> None:
        async with database.pipeline() as pipeline:
            pipeline.put(INSERT, {"numbers": ints([1])})
            pipeline.put(SLEEP)
            await pipeline.run()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait(), 0.2)
    assert await count(database) == 0


async def test_a_lost_connection_is_unavailable_and_replaced(database: Database, url: str) -> None:
    async def wait() -> None:
        async with database.pipeline() as pipeline:
            answer = pipeline.put(WHO)
            await pipeline.run()
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [read_int(answer.rows[0][0])])
            pipeline.put(COUNT)
            await pipeline.run()

    with pytest.raises(Unavailable):
        await wait()
    assert await count(database) == 0


async def roll_back_prepared(database: Database) -> None:
    """Roll back a transaction whose statement the driver has prepared; raise LookupError."""
    async with database.transaction() as connection:
        for _ in range(DRIVER_PREPARES):
            await connection.execute("SELECT 1")
        raise LookupError


async def test_statements_that_the_driver_deallocates_are_prepared_again(database: Database) -> None:
    async with database.pipeline() as pipeline:
        pipeline.put(COUNT)
    with pytest.raises(LookupError):
        await roll_back_prepared(database)
    async with database.read() as connection:  # the driver deallocates before the next statement
        await connection.execute("SELECT 1")
    with pytest.raises(Unavailable):
        async with database.pipeline() as pipeline:
            pipeline.put(COUNT)
    async with database.pipeline() as pipeline:
        counted = pipeline.put(COUNT)
    assert read_int(counted.rows[0][0] or b"") == 0


async def test_values_larger_than_all_buffers_pass_in_both_directions(database: Database) -> None:
    large = "é" * 8_000_000
    async with database.pipeline() as pipeline:
        answers = [pipeline.put(TWICE, {"text": texts([large])}) for _ in range(2)]
        await pipeline.run()
    for answer in answers:
        for value in answer.rows[0]:
            assert value is not None
            assert value.endswith(large.encode())


def test_a_number_too_large_is_refused_before_sending() -> None:
    for build in (ints, bigints, timestamps):
        with pytest.raises(psycopg.DataError):
            build([2**70])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            st.binary(),
            st.booleans(),
            st.integers(-(2**31), 2**31 - 1),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis wants them naive
        )
    )
)
async def test_every_value_is_returned_as_it_was_sent(
    database: Database, rows: list[tuple[str | None, bytes, bool, int, int | None, datetime | None]]
) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * 6
    values = {
        "texts": texts(columns[0]),
        "byteas": byteas(columns[1]),
        "bools": bools(columns[2]),
        "ints": ints(columns[3]),
        "bigints": bigints(columns[4]),
        "timestamps": timestamps(moment and (moment - EPOCH) // timedelta(microseconds=1) for moment in columns[5]),
    }
    async with database.pipeline() as pipeline:
        answer = pipeline.put(ROWS, values)
        await pipeline.run()
    assert [
        (
            None if row[0] is None else read_text(row[0]),
            row[1],
            read_bool(row[2]),
            read_int(row[3]),
            None if row[4] is None else read_int(row[4]),
            read_timestamp(row[5]),
        )
        for row in answer.rows
    ] == rows


def test_the_death_of_a_server_with_unread_input_is_noticed_at_once(url: str) -> None:
    """Its socket then has an error in addition to its end, which uvloop, the services' event loop, does not report."""

    async def die(database: Database) -> None:
        async with database.pipeline() as pipeline:
            who = pipeline.put(WHO)
            await pipeline.run()
            pipeline.put(SLEEP)
            pipeline.put(TWICE, {"text": texts(["x" * 60_000])})
            running = asyncio.create_task(pipeline.run())
            pid = (read_int(who.rows[0][0]),)
            with psycopg.connect(url, autocommit=True) as other:
                await until(lambda: other.execute(ASLEEP, pid).fetchone() is not None)
                other.execute("SELECT pg_terminate_backend(%s)", pid)
            await asyncio.wait_for(running, 30)

    async def notice() -> None:
        database = await Database.open(url, max_size=1)
        with pytest.raises(Unavailable):
            await die(database)
        await database.close()

    uvloop.run(notice())
