"""PostgreSQL for one service: a pool, reads, transactions, and the translation of database errors.

SQLAlchemy declares tables, writes migrations and composes list queries; psycopg runs everything. Going through
SQLAlchemy's own execution costs 220 to 360 us a statement more than the driver (architecture, section 4), so its
statements are compiled to text here and hot ones are text from the start.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary

import psycopg
from cachetools import LRUCache
from psycopg import errors as pg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import ClauseElement

from services.kit.db.pipeline import BEGIN, COMMIT, ROLLBACK, Pipeline
from services.kit.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.kit.rpc.fairness import UNREAD_RESPONSES, FairSemaphore, current_client_connection

Connection = psycopg.AsyncConnection[TupleRow]

# A statement that runs longer than this serves nobody: Go clients give a call up after 15 s.
STATEMENT_TIMEOUT_MILLISECONDS = 10_000
# Locks are held for one short transaction each; whoever waits longer than this waits for something broken.
LOCK_TIMEOUT_MILLISECONDS = 5_000
# Whoever opens a transaction and then says nothing for this long stands still, and with it whoever needs its locks. The
# longest that is waited for within one is a write to the object store.
IDLE_TRANSACTION_TIMEOUT_MILLISECONDS = 10_000
# How long a call waits for a free connection before it is refused; shorter than any client's patience.
POOL_WAIT_SECONDS = 5.0
# A pool tries to connect again with pauses that double. After this it gives up, and the next who wants a connection
# begins anew, without a pause: otherwise a database that was away for a minute would be missed for a minute more.
_RECONNECT_SECONDS = 4.0
# How long a start waits for the database, which may be starting too.
START_SECONDS = 30.0
# How long somebody at a terminal waits for it.
_TERMINAL_SECONDS = 3.0
POOL_MIN_SIZE = 1
POOL_MAX_SIZE = 10

# Clients send some dozens of shapes; whoever makes up more gets each composed anew. A text has a kilobyte, the longest
# that filters can ask for 20.
_TEXTS_KEPT = 500

_TOO_MANY = "too many calls are waiting for the database"

# What is left is a nested loop over an index.
_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it unannotated

# Nothing is wrong with the statement: it can be sent again once the server has room, or its successor is found.
_NO_WRITES: dict[type[psycopg.Error], str] = {
    pg.DiskFull: "its disk is full",
    pg.IoError: "its disk fails",
    pg.ReadOnlySqlTransaction: "it is read-only",
}

_TAKES_NO_WRITES = tuple(_NO_WRITES)

# Fails as the next write would, and leaves nothing: a commit of its own for the write-ahead log, and rows that do not
# fit into memory for the disk of the tables. Some milliseconds, so it is asked for now and then, not for a call.
_TRY_A_WRITE = (
    "SET LOCAL work_mem = '64kB'",
    "SELECT pg_logical_emit_message(true, 'flyteplane', 'a write is tried')",
    "SELECT count(*) FROM generate_series(1, 10000)",
)

# The server ended the session; whatever was under way in it was undone.
_LOST = (psycopg.OperationalError, psycopg.InterfaceError, pg.IdleInTransactionSessionTimeout, PoolClosed)

_AWAY = "the database cannot be reached"

# Constraint violations reach this place only when a caller's data breaks a rule that no check foresaw; the value is
# wrong, not the database.
_BAD_VALUE = (pg.DataError, pg.UntranslatableCharacter, pg.CharacterNotInRepertoire, pg.ProgramLimitExceeded)


class Database:
    """The pool of one service's connections. All are in autocommit; `transaction` opens a block."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool
        # A pool serves in the order in which it is asked: behind hundreds of lists of one client all others would wait.
        self._turns = FairSemaphore(pool.max_size)
        self._lent = 0  # connections that calls hold now
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
        """Open a pool on `url`; raises Unavailable when the database cannot be reached within `patience` seconds.

        `by_key`: for statements that find every row by a key. PostgreSQL plans a prepared statement a few times and
        then keeps the plan; one made while a table was new and empty would read all of it when it has grown.
        """
        timeouts = {
            "statement_timeout": STATEMENT_TIMEOUT_MILLISECONDS,
            "lock_timeout": LOCK_TIMEOUT_MILLISECONDS,
            "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT_MILLISECONDS,
        }
        settings = timeouts | (_BY_KEY if by_key else {})
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
            raise Unavailable(_AWAY) from error
        pool.reconnect_timeout = _RECONNECT_SECONDS
        return cls(pool)

    async def close(self) -> None:
        """Close every connection; calls under way get a few seconds to give theirs back."""
        await self._pool.close()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """A connection in autocommit, for reads and for single statements that are their own transaction."""
        with self._translated():
            async with self._in_turn() as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction: committed at the end of the block, rolled back when it raises."""
        with self._translated():
            async with self._in_turn() as connection, connection.transaction():
                yield connection

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """A transaction of statements that travel together: its end goes with what the block has put last.

        A statement fails when the pipeline runs, and the last ones when the block ends.
        """
        with self._translated():
            connection = await self._pool.getconn()  # by whatever comes together; it waits for no turn
            self._lent += 1
            try:
                pipeline = Pipeline(connection, self._prepared.setdefault(connection, set()))
                pipeline.put(BEGIN)
                try:
                    yield pipeline
                    pipeline.put(COMMIT)
                    await pipeline.run()
                except BaseException:
                    await pipeline.undo(ROLLBACK)
                    raise
            finally:
                self._lent -= 1
                await self._pool.putconn(connection)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[Connection]:
        peer = await self._turn()
        try:
            async with self._pool.connection() as connection:
                self._lent += 1
                try:
                    yield connection
                finally:
                    self._lent -= 1
        finally:
            self._turns.give(peer)

    async def _turn(self) -> str | None:
        """Wait for the turn of whom this call is for; it must be given back. Raises ResourceExhausted or Unavailable.

        Nothing is read for somebody who leaves unread what was answered before: it would pile up here.
        """
        peer = current_client_connection()
        await self._take_turn(peer)
        while UNREAD_RESPONSES.too_many(peer):
            self._turns.give(peer)
            try:
                await UNREAD_RESPONSES.fewer(peer, POOL_WAIT_SECONDS)
            except TimeoutError:
                raise ResourceExhausted(_TOO_MANY) from None
            await self._take_turn(peer)
        return peer

    async def _take_turn(self, peer: str | None) -> None:
        try:
            await self._turns.take(peer, POOL_WAIT_SECONDS)
        except TimeoutError:
            raise self._no_connection() from None

    def _no_connection(self) -> ServiceError:
        # None was had although not all are in use.
        return Unavailable(_AWAY) if self._lent < self._pool.max_size else ResourceExhausted(_TOO_MANY)

    async def check_writes(self) -> None:
        """Raise Unavailable unless the database would take a write now."""
        async with self.transaction() as connection:
            for statement in _TRY_A_WRITE:
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
        except _TAKES_NO_WRITES as error:
            raise Unavailable(f"the database takes no writes: {_NO_WRITES[type(error)]}") from error
        except _LOST as error:
            raise Unavailable(_AWAY) from error
        except psycopg.Error as error:
            raise Internal("the database refused a statement") from error


@asynccontextmanager
async def at_terminal(url: str) -> AsyncIterator[Database]:
    """A database over one connection for a command: somebody waits for it; raises Unavailable soon."""
    db = await Database.open(url, max_size=1, patience=_TERMINAL_SECONDS)
    try:
        yield db
    finally:
        await db.close()


@asynccontextmanager
async def snapshot(connection: Connection) -> AsyncIterator[None]:
    """Reads that see the rows of one moment, whatever others commit meanwhile."""
    # In one statement, where the driver's own block takes two and would have to be told the level besides.
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        yield
    finally:
        await connection.execute("ROLLBACK")  # nothing was written


async def fetch(connection: Connection, statement: Executable) -> list[TupleRow]:
    """Run a SQLAlchemy Core statement through the driver; rows are tuples in the order of its columns."""
    return await fetch_text(connection, *compiled(statement))


async def fetch_text(connection: Connection, text: str, parameters: Mapping[str, Any]) -> list[TupleRow]:
    """Run the text of a composed statement; rows are tuples in the order of its columns.

    It is never prepared: PostgreSQL would in the end plan it once for all values, and what is right for a name with
    three versions takes a hundred times as long for one with a hundred thousand.
    """
    cursor = await connection.execute(text, parameters, binary=True, prepare=False)
    rows: list[TupleRow] = await cursor.fetchall()
    return rows


class StatementCache:
    """Texts of composed statements that were asked for lately; composing one costs as much as the rest of the call."""

    def __init__(self) -> None:
        self._texts: LRUCache[Hashable, str] = LRUCache(_TEXTS_KEPT)

    def of(self, shape: Hashable, compose: Callable[[], Executable]) -> str:
        """The text of what `compose` makes, which depends on `shape` alone: its values are named parameters."""
        text = self._texts.get(shape)
        if text is None:
            text = self._texts[shape] = compiled(compose())[0]
        return text


def compiled(statement: Executable) -> tuple[str, dict[str, Any]]:
    """The SQL text of `statement` and its parameters, as psycopg takes them."""
    if not isinstance(statement, ClauseElement):
        raise TypeError(f"{type(statement).__name__} is not a statement that compiles")
    result = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(result), dict(result.params)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
