"""The database pool on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg_pool.base import AttemptWithBackoff

from services.kit.db import database as db
from services.kit.db.binary_parameters import bigints, read_int
from services.kit.db.database import Database
from services.kit.db.pipeline import Statement
from services.kit.errors import ResourceExhausted, ServiceError, Unavailable
from services.kit.rpc.fairness import CONNECTION_HEADER, UNREAD_RESPONSES, set_client_connection
from tests.support.parts import Parts, running_postgres
from tests.support.waiting import until

CONNECTIONS = 5
_LOCK = "SELECT pg_advisory_xact_lock(1)"


@pytest.fixture
async def database(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(db, "IDLE_TRANSACTION_TIMEOUT_MILLISECONDS", 200)
    opened = await Database.open(parts.new_database("test_db"))
    yield opened
    await opened.close()


async def test_an_idle_transaction_loses_its_locks_and_is_rolled_back(
    database: Database,
) -> None:
    async with database.read() as connection:
        await connection.execute("CREATE TABLE written (number int)")

    async def idle() -> None:
        async with database.transaction() as idle_connection:
            await idle_connection.execute(_LOCK)
            await idle_connection.execute("INSERT INTO written VALUES (1)")
            async with database.transaction() as other:
                await other.execute(_LOCK)
            await idle_connection.execute("INSERT INTO written VALUES (2)")

    with pytest.raises(Unavailable):
        await idle()
    async with database.read() as connection:
        cursor = await connection.execute("SELECT count(*) FROM written")
        assert await cursor.fetchone() == (0,)


@pytest.mark.parametrize("lease", [Database.read, Database.transaction, Database.pipeline])
async def test_connections_that_the_server_has_closed_are_not_used(
    lease: Callable[[Database], AbstractAsyncContextManager[object]], database: Database, parts: Parts
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            await stack.enter_async_context(database.read())
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'test_db'"
    with psycopg.connect(parts.postgres_url, autocommit=True) as other:
        assert len(other.execute(end).fetchall()) >= CONNECTIONS
    for _ in range(CONNECTIONS):
        async with lease(database) as leased:
            if isinstance(leased, psycopg.AsyncConnection):  # a pipeline sends its own statements
                await leased.execute("SELECT 1")


async def test_a_database_that_was_down_for_long_is_used_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pool's own pause would be a minute; its reconnect timeout ends it."""
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 60.0)
    monkeypatch.setattr(db, "_RECONNECT_SECONDS", 0.2)
    monkeypatch.setattr(db, "POOL_WAIT_SECONDS", 0.2)
    with TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder:  # a short path for a socket
        with running_postgres(Path(folder)) as url:
            database = await Database.open(url, max_size=1)
        using = asyncio.create_task(until_used(database))
        await until(lambda: database._pool.get_stats().get("connections_errors", 0) >= 3)
        with running_postgres(Path(folder)):
            await asyncio.wait_for(using, 30)
        await database.close()


@pytest.mark.parametrize(
    "max_size",
    [pytest.param(1, id="all connections are in use"), pytest.param(3, id="the share of a client is in use")],
)
async def test_only_calls_that_wait_for_others_are_resource_exhausted(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, max_size: int
) -> None:
    monkeypatch.setattr(db, "POOL_WAIT_SECONDS", 0.2)
    database = await Database.open(parts.new_database(f"test_db_busy_{max_size}"), max_size=max_size)
    async with database.read():
        with pytest.raises(ResourceExhausted):
            await database.check_writes()
    await database.check_writes()
    await database.close()


async def test_a_read_only_database_is_unavailable_for_writes(parts: Parts) -> None:
    database = await Database.open(parts.new_database("test_db_standby"), max_size=1)
    async with database.read() as connection:
        await connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(Unavailable, match="the database takes no writes: it is read-only"):
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE none (number int)")
    await database.close()


async def until_used(database: Database) -> None:
    while True:
        try:
            async with database.read() as connection:
                await connection.execute("SELECT 1")
        except Unavailable:  # the only error, for a lost connection and for none
            await asyncio.sleep(0.1)
        else:
            return


async def test_calls_of_other_connections_take_turns_with_hundreds_of_one(parts: Parts) -> None:
    database = await Database.open(parts.new_database("test_db"), max_size=2)
    order = list[str]()

    async def call(connection_name: str) -> None:
        set_client_connection({CONNECTION_HEADER: connection_name})
        async with database.read() as connection:
            await connection.execute("SELECT pg_sleep(0.001)")
            order.append(connection_name)

    flood = [asyncio.create_task(call("flood")) for _ in range(200)]
    await asyncio.sleep(0)
    await asyncio.gather(call("one"), *flood)
    await database.close()
    assert order.index("one") < 10


async def test_a_client_connection_leaves_database_connections_to_others(parts: Parts) -> None:
    database = await Database.open(parts.new_database("test_db"), max_size=4)
    may_end, begun, slow_begun = asyncio.Event(), list[str](), asyncio.Semaphore(0)

    async def call(connection_name: str) -> None:
        set_client_connection({CONNECTION_HEADER: connection_name})
        async with database.read() as connection:
            await connection.execute("SELECT 1")
            begun.append(connection_name)
            if connection_name == "slow":
                slow_begun.release()
                await may_end.wait()

    slow = [asyncio.create_task(call("slow")) for _ in range(6)]
    for _ in range(2):
        await slow_begun.acquire()
    for _ in range(3):
        await asyncio.create_task(call("other"))
    assert begun.count("slow") == 2
    may_end.set()
    await asyncio.gather(*slow)
    await database.close()


async def test_lists_of_any_number_of_client_connections_leave_connections_to_other_calls(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "POOL_WAIT_SECONDS", 0.5)
    url = parts.new_database("test_db_lists")
    database = await Database.open(url, max_size=4)
    statements = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'test_db_lists' AND wait_event_type = 'Lock'"

    async def list_slowly(connection_name: str) -> None:
        set_client_connection({CONNECTION_HEADER: connection_name})
        async with database.read(listing=True) as connection:
            await connection.execute("SELECT * FROM rows")

    async with database.transaction() as connection:
        await connection.execute("CREATE TABLE rows (number int)")
    async with await psycopg.AsyncConnection.connect(url) as locking, asyncio.TaskGroup() as tasks:
        await locking.execute("LOCK TABLE rows")
        lists = [tasks.create_task(_refused(list_slowly(f"list {number}"))) for number in range(20)]
        await until(lambda: sum(task.done() for task in lists) == 18)  # refused, as the others still have their slots
        for lease in (database.read, database.transaction) * 3:
            set_client_connection({CONNECTION_HEADER: "other"})
            async with lease() as connection:
                cursor = await connection.execute(statements)
                assert await cursor.fetchone() == (2,)
        await locking.rollback()
    assert [task.result() for task in lists].count(ResourceExhausted) == 18
    await database.close()


async def _refused(work: Awaitable[None]) -> type[ServiceError] | None:
    try:
        await work
    except ServiceError as error:
        return type(error)
    return None


async def test_an_abandoned_statement_is_ended_before_its_connection_is_used_again(parts: Parts) -> None:
    database = await Database.open(parts.new_database("test_db_abandoned"), max_size=1)
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'test_db_abandoned' AND wait_event = 'PgSleep'"

    async def backend() -> int:
        async with database.read() as connection:
            row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
            assert row is not None
            return int(row[0])

    async def sleep() -> None:
        async with database.read() as connection:
            await connection.execute("SELECT pg_sleep(9)")

    before = await backend()
    sleeping = asyncio.create_task(sleep())
    with psycopg.connect(parts.postgres_url, autocommit=True) as other:
        await until(lambda: other.execute(asleep).fetchone() == (1,))
    sleeping.cancel()
    assert await backend() == before
    assert sleeping.cancelled()
    await database.close()


async def test_work_outside_of_calls_does_not_wait_for_clients_to_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "POOL_WAIT_SECONDS", 0.5)
    both = asyncio.Barrier(2)

    async def work() -> None:
        async with database.read() as connection:
            await connection.execute("SELECT 1")
            await asyncio.wait_for(both.wait(), 15)

    UNREAD_RESPONSES.add("unread", 1024 * 1024 * 1024)
    try:
        await asyncio.gather(work(), work())
    finally:
        UNREAD_RESPONSES.add("unread", -1024 * 1024 * 1024)


async def test_calls_of_a_client_with_unread_responses_are_resource_exhausted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "POOL_WAIT_SECONDS", 0.05)

    async def read(metadata: dict[str, str] | None) -> None:
        if metadata is not None:
            set_client_connection(metadata)
        async with database.read() as connection:
            await connection.execute("SELECT 1")

    unread: dict[str, str]
    for unread in ({CONNECTION_HEADER: "unread"}, {}):
        connection_name = unread.get(CONNECTION_HEADER, "")
        UNREAD_RESPONSES.add(connection_name, 1 << 30)
        try:
            with pytest.raises(ResourceExhausted):
                await asyncio.create_task(read(unread))
            await asyncio.create_task(read({CONNECTION_HEADER: "other"}))
            await asyncio.create_task(read(None))  # the process's own work
        finally:
            UNREAD_RESPONSES.add(connection_name, -(1 << 30))
        await asyncio.create_task(read(unread))


async def test_statements_by_key_are_planned_once_also_those_with_arrays(parts: Parts) -> None:
    table = "CREATE TABLE keyed AS SELECT id FROM generate_series(1, 1000) AS id; CREATE UNIQUE INDEX ON keyed (id)"
    by_array = Statement("SELECT keyed.id FROM unnest(%(ids)b::bigint[]) AS k (id) JOIN keyed ON keyed.id = k.id")
    used = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE 'SELECT keyed%'"
    opened = await Database.open(parts.new_database("by_key"), max_size=1, by_key=True)
    try:
        async with opened.autocommit() as connection:
            await connection.execute(table)
        for number in range(10):
            async with opened.pipeline() as pipeline:
                found = pipeline.put(by_array, {"ids": bigints([number + 1])})
                await pipeline.run()
            assert [read_int(row[0]) for row in found.rows] == [number + 1]
        async with opened.read() as connection:
            assert await (await connection.execute(used)).fetchall() == [(10, 0)]
    finally:
        await opened.close()
