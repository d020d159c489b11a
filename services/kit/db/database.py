"""PostgreSQL for one service: a pool, reads, transactions, and the translation of database errors.

SQLAlchemy declares tables, writes migrations and composes list queries; psycopg runs everything. SQLAlchemy's own
execution costs 220 to 360 us per statement more than the driver's
(docs/decisions/0001-sqlalchemy-composes-psycopg-runs.md), so its statements are compiled to text
(`services/kit/lists/statements.py`), and frequent ones are written as text. A process without lists does not import it.
"""

import select
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Self
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors as pg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from services.kit.db.pipeline import BEGIN, COMMIT, ROLLBACK, Pipeline
from services.kit.db.slots import Slots
from services.kit.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.kit.rpc.fairness import (
    UNREAD_RESPONSES,
    acquire_to_respond,
    current_client_connection,
)

Connection = psycopg.AsyncConnection[TupleRow]

_AFTER_COMMIT: WeakKeyDictionary[Connection, list[Callable[[], None]]] = WeakKeyDictionary()
"""What `after_commit` registered for the open transaction of a connection."""

# The result of a longer statement is of no use: Go clients cancel a call after 15 s.
STATEMENT_TIMEOUT_MILLISECONDS = 10_000
# Locks are held for one short transaction each; a longer wait means that its holder hangs.
LOCK_TIMEOUT_MILLISECONDS = 5_000
# A transaction that is idle for this long hangs, and blocks others by its locks. The longest regular wait within one is
# a write to the object store.
IDLE_TRANSACTION_TIMEOUT_MILLISECONDS = 10_000
# How long a call waits for a free connection before it is refused; shorter than any client's timeout.
POOL_WAIT_SECONDS = 5.0
# A pool retries to connect with doubling pauses. After this time it gives up, and the next request for a connection
# tries at once: otherwise the pool might notice only a minute later that a database is back.
_RECONNECT_SECONDS = 4.0
# How long a start waits for the database, which may be starting too.
START_SECONDS = 30.0
# How long a command at a terminal waits for the database.
_TERMINAL_SECONDS = 3.0
POOL_MIN_SIZE = 1
POOL_MAX_SIZE = 10

_TOO_MANY = "too many calls are waiting for the database"

# Without these plan types, PostgreSQL uses nested loops over indexes. The plan is the same for all parameters, so it is
# made once: for arrays, whose length it estimates, PostgreSQL would otherwise plan most statements at every execution.
_INDEX_ONLY_PLANS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}

# The statement itself is right: it can be sent again once the server has disk space, or another primary is found.
_WRITE_FAILURES: dict[type[psycopg.Error], str] = {
    pg.DiskFull: "its disk is full",
    pg.IoError: "its disk fails",
    pg.ReadOnlySqlTransaction: "it is read-only",
}

_WRITE_ERRORS = tuple(_WRITE_FAILURES)

# Fails as the next write would, and stores nothing: a commit tests the write-ahead log, and rows that do not fit into
# memory test the disk of the tables. It takes some milliseconds, so it runs in readiness checks and not in calls.
_TRIAL_WRITE = (
    "SET LOCAL work_mem = '64kB'",
    "SELECT pg_logical_emit_message(true, 'flyteplane', 'a write is tried')",
    "SELECT count(*) FROM generate_series(1, 10000)",
)

# The server ended the session and rolled its transaction back, or the session has lost its prepared statements.
_LOST_CONNECTION = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    pg.IdleInTransactionSessionTimeout,
    pg.InvalidSqlStatementName,
    PoolClosed,
)

_UNREACHABLE = "the database cannot be reached"

# A caller's value violates a rule of PostgreSQL that no check covers; the database is in order.
_BAD_VALUE = (pg.DataError, pg.UntranslatableCharacter, pg.CharacterNotInRepertoire, pg.ProgramLimitExceeded)


class Database:
    """The connection pool of one service. Connections are in autocommit mode; `transaction` opens a block."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool
        self._slots = Slots(pool.max_size)
        self._in_use = 0  # connections outside of the pool
        self._prepared: WeakKeyDictionary[Connection, set[bytes]] = WeakKeyDictionary()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        min_size: int = POOL_MIN_SIZE,
        max_size: int = POOL_MAX_SIZE,
        patience: float = START_SECONDS,
        by_key: bool = False,
    ) -> Self:
        """Open a pool.

        Args:
            url: connection URL of the database.
            min_size: connections that stay open.
            max_size: connections at most.
            patience: seconds to wait for the first connection.
            by_key: all statements find their rows by a key. PostgreSQL plans a prepared statement a few times and then
                reuses the plan; without this, a plan that was made for an empty table would scan it when it has grown.

        Raises:
            Unavailable: the database cannot be reached in time.
        """
        timeouts = {
            "statement_timeout": STATEMENT_TIMEOUT_MILLISECONDS,
            "lock_timeout": LOCK_TIMEOUT_MILLISECONDS,
            "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT_MILLISECONDS,
        }
        settings = timeouts | (_INDEX_ONLY_PLANS if by_key else {})
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            kwargs={"autocommit": True, "options": options, "application_name": "flyteplane"},
            min_size=min_size,
            max_size=max_size,
            timeout=POOL_WAIT_SECONDS,
            open=False,
        )
        try:
            await pool.open(wait=True, timeout=patience)
        except PoolTimeout as error:
            await pool.close()
            raise Unavailable(_UNREACHABLE) from error
        pool.reconnect_timeout = _RECONNECT_SECONDS
        return cls(pool)

    async def close(self) -> None:
        """Close every connection; calls under way have a few seconds to return theirs."""
        await self._pool.close()

    @asynccontextmanager
    async def read(self, *, listing: bool = False) -> AsyncIterator[Connection]:
        """Yield a connection for reads; it is in autocommit mode, so each statement sees its own snapshot.

        Args:
            listing: the read is a list, whose time depends on filters and rows. Lists together leave connections to
                other calls.
        """
        with self._translated():
            async with self._lease(listing=listing) as connection:
                yield connection

    def autocommit(self) -> AbstractAsyncContextManager[Connection]:
        """Return a block whose statements, writes too, are each a transaction of their own."""
        return self.read()  # the same block; the name shows that it writes

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Yield a connection in a transaction: committed at the end of the block, rolled back when the block raises."""
        with self._translated():
            async with self._lease() as connection:
                with _calling_after_commit(connection):
                    async with connection.transaction():
                        yield connection

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """Yield a transaction whose statements are sent together; COMMIT is sent with the last ones of the block.

        A statement's error is raised when the pipeline runs; that of the last ones when the block ends.
        """
        with self._translated():
            async with self._connection() as connection:  # for batches, which need no slot of a client connection
                pipeline = Pipeline(connection, self._prepared.setdefault(connection, set()))
                pipeline.put(BEGIN)
                with _calling_after_commit(connection):
                    try:
                        yield pipeline
                        pipeline.put(COMMIT)
                        await pipeline.run()
                    except BaseException:
                        await pipeline.undo(ROLLBACK)
                        raise

    @asynccontextmanager
    async def _lease(self, *, listing: bool = False) -> AsyncIterator[Connection]:
        client_connection = await self._acquire_slot(listing=listing)
        try:
            async with self._connection() as connection:
                yield connection
        finally:
            self._slots.release(client_connection, listing=listing)
            UNREAD_RESPONSES.call_ended(client_connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Yield an open connection of the pool; replace those that a restart of the server has closed."""
        for remaining in reversed(range(self._pool.max_size + 1)):
            connection = await self._pool.getconn()
            try:
                if remaining and _is_closed_by_server(connection):
                    await connection.close()  # the pool replaces it
                    continue
                self._in_use += 1
                try:
                    async with connection:
                        yield connection
                finally:
                    self._in_use -= 1
                return
            finally:
                await self._pool.putconn(connection)

    async def _acquire_slot(self, *, listing: bool) -> str | None:
        """Acquire a slot for the current call, and return the client connection that must release it.

        A client connection with too many unread responses waits: more of them would accumulate in memory.

        Raises:
            ResourceExhausted: no slot was free in time: other calls use them all, or those of this client connection
                use its share. Or the client does not read its responses.
            Unavailable: no slot was free in time, because the database cannot be reached.
        """
        acquire = partial(self._wait_for_slot, listing=listing)
        release = partial(self._slots.release, listing=listing)
        await acquire_to_respond(self._slots.all, acquire, POOL_WAIT_SECONDS, release)
        return current_client_connection()

    async def _wait_for_slot(self, *, listing: bool) -> None:
        try:
            await self._slots.acquire(current_client_connection(), POOL_WAIT_SECONDS, listing=listing)
        except TimeoutError:
            # Those that have the slots wait for the pool, or they use their connections for long.
            waits_for_pool = self._pool.get_stats().get("requests_waiting", 0) > 0
            raise (self._no_connection() if waits_for_pool else ResourceExhausted(_TOO_MANY)) from None

    def _no_connection(self) -> ServiceError:
        """Return the error of a wait for the pool: with fewer connections than the maximum, it could not open one."""
        return Unavailable(_UNREACHABLE) if self._in_use < self._pool.max_size else ResourceExhausted(_TOO_MANY)

    async def check_writes(self) -> None:
        """Raise Unavailable unless the database accepts writes now."""
        async with self.transaction() as connection:
            for statement in _TRIAL_WRITE:
                await connection.execute(statement)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ServiceError:
            raise
        except (pg.QueryCanceled, pg.LockNotAvailable) as error:
            raise DeadlineExceeded("the database took too long") from error
        except _BAD_VALUE as error:
            raise InvalidArgument(f"a value cannot be stored or compared: {_first_line(error)}") from error
        except (PoolTimeout, TooManyRequests) as error:
            raise self._no_connection() from error
        except _WRITE_ERRORS as error:
            raise Unavailable(f"the database takes no writes: {_WRITE_FAILURES[type(error)]}") from error
        except _LOST_CONNECTION as error:
            raise Unavailable(_UNREACHABLE) from error
        except psycopg.Error as error:
            raise Internal("the database refused a statement") from error


def after_commit(connection: Connection, callback: Callable[[], None]) -> None:
    """Call `callback` once when the open transaction of `connection` is committed, and never if it is rolled back.

    Only for the blocks of `Database.transaction` and `Database.pipeline`.
    """
    _AFTER_COMMIT.setdefault(connection, []).append(callback)


@contextmanager
def _calling_after_commit(connection: Connection) -> Iterator[None]:
    try:
        yield
        for callback in _AFTER_COMMIT.get(connection, ()):
            callback()
    finally:
        _AFTER_COMMIT.pop(connection, None)


def _is_closed_by_server(connection: Connection) -> bool:
    """Return whether an idle connection has something to read: PostgreSQL sends nothing to those but their end."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@asynccontextmanager
async def at_terminal(url: str) -> AsyncIterator[Database]:
    """Yield a database with one connection, for a command at a terminal; raise Unavailable after a short wait."""
    db = await Database.open(url, max_size=1, patience=_TERMINAL_SECONDS)
    try:
        yield db
    finally:
        await db.close()


@asynccontextmanager
async def snapshot(connection: Connection) -> AsyncIterator[None]:
    """Open a block whose reads see one snapshot of the database."""
    # One statement; the driver's own block needs two, and the isolation level in addition.
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        yield
    finally:
        await connection.execute("ROLLBACK")  # nothing was written


async def fetch_text(connection: Connection, text: str, parameters: Mapping[str, Any]) -> list[TupleRow]:
    """Run the text of a composed statement; return its rows as tuples in the order of its columns.

    It is never prepared: PostgreSQL would reuse one plan for all values, and the plan for a name with three versions
    takes a hundred times as long for one with a hundred thousand.
    """
    cursor = await connection.execute(text, parameters, binary=True, prepare=False)
    rows: list[TupleRow] = await cursor.fetchall()
    return rows


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
