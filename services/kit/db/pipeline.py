"""Statements of one transaction that are sent together: one write to the server, one wait for all results.

The driver's own pipeline writes and wakes up for each statement; in a transaction of ten, that was most of the cost of
a single event in the executions service (docs/decisions/0015-one-lane-statements-by-libpq.md). This one uses the
driver's libpq (`psycopg.pq`) with prepared statements and values in binary format (`binary_parameters`).
"""

import asyncio
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import psycopg
from psycopg import errors as pg
from psycopg import pq
from psycopg.rows import TupleRow

# A wait polls the socket after this time: libuv stops watching a socket with an error, as when a server dies with
# unread input, and uvloop does not report that. Reading reports the error.
_POLL_SECONDS = 0.25

_PARAMETER = re.compile(r"%\((\w+)\)b")
_BINARY = 1
_SUCCESS = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}

_numbers = itertools.count()


class Statement:
    """SQL with parameters such as `%(name)b`; each connection that uses it prepares it once."""

    def __init__(self, sql: str) -> None:
        self.parameters = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
        placeholders = {name: f"${position}" for position, name in enumerate(self.parameters, 1)}
        self.sql = _PARAMETER.sub(lambda match: placeholders[match[1]], sql).encode()
        self.name = b"flyteplane_%d" % next(_numbers)
        self.formats = [_BINARY] * len(self.parameters)


@dataclass(slots=True)
class Result:
    """The rows of a statement, with values in binary format; set when the pipeline has run."""

    rows: Sequence[tuple[bytes | None, ...]] = ()


@dataclass(slots=True)
class _Request:
    """A message sent to the server: a statement to execute, or to prepare when it has no `result`."""

    statement: Statement
    result: Result | None = None


BEGIN = Statement("BEGIN")
COMMIT = Statement("COMMIT")
ROLLBACK = Statement("ROLLBACK")


@dataclass
class Pipeline:
    """A queue of statements for one connection: `put` them, then `run`.

    Between two runs the connection can be used directly.
    """

    connection: psycopg.AsyncConnection[TupleRow]
    _prepared: set[bytes]  # names of the statements that the connection has prepared
    _waiting: list[tuple[Statement, list[bytes | None], Result]] = field(default_factory=list)

    def put(self, statement: Statement, values: Mapping[str, bytes | None] | None = None) -> Result:
        """Queue `statement`; its rows are in the returned result after `run`.

        Args:
            statement: the statement.
            values: its parameters by name, in binary format.
        """
        result = Result()
        parameters = [values[name] for name in statement.parameters] if values else []
        self._waiting.append((statement, parameters, result))
        return result

    async def run(self) -> None:
        """Run the queued statements. A cancellation closes the connection, and so does the loss of its statements.

        Raises:
            psycopg.Error: the first error; the statements after it did not run.
        """
        connection = self.connection.pgconn
        try:
            connection.enter_pipeline_mode()
            requests = self._send(connection)
            failure = await self._read_results(connection, requests)
            connection.exit_pipeline_mode()
        except BaseException:
            connection.finish()
            raise
        if isinstance(failure, pg.InvalidSqlStatementName):
            # When the driver rolls a transaction back it deallocates all statements of the session, these too.
            connection.finish()
        if failure is not None:
            raise failure

    async def undo(self, statement: Statement) -> None:
        """Drop the queue and roll back by `statement`; the server does so itself when the connection is lost."""
        self._waiting.clear()
        connection = self.connection.pgconn
        if connection.status == pq.ConnStatus.OK and connection.transaction_status != pq.TransactionStatus.IDLE:
            self.put(statement)
            await self.run()

    def _send(self, connection: pq.abc.PGconn) -> list[_Request]:
        requests = []
        preparing: set[bytes] = set()
        for statement, parameters, result in self._waiting:
            if statement.name not in self._prepared and statement.name not in preparing:
                connection.send_prepare(statement.name, statement.sql)
                preparing.add(statement.name)
                requests.append(_Request(statement))
            connection.send_query_prepared(statement.name, parameters, statement.formats, _BINARY)
            requests.append(_Request(statement, result))
        self._waiting.clear()
        connection.pipeline_sync()
        return requests

    async def _read_results(self, connection: pq.abc.PGconn, requests: Sequence[_Request]) -> psycopg.Error | None:
        """Read all results; return the first failure."""
        failure: psycopg.Error | None = None
        with _Socket(connection) as socket:
            await socket.flush()
            for request in requests:
                while (result := await socket.result()) is not None:
                    if result.status in _SUCCESS:
                        self._store_result(request, result)
                    elif failure is None:
                        failure = _failure(connection, result)
            await socket.result()  # of the pipeline sync
        return failure

    def _store_result(self, request: _Request, received: pq.abc.PGresult) -> None:
        if request.result is None:
            self._prepared.add(request.statement.name)
        else:
            columns = range(received.nfields)
            value = received.get_value
            request.result.rows = [tuple([value(row, column) for column in columns]) for row in range(received.ntuples)]


class _Socket:
    """The socket of a connection; the event loop watches it from the first wait to the end of the block."""

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self._connection = connection
        self._descriptor = connection.socket
        self._loop = asyncio.get_running_loop()
        self._watched = False
        self._ready: asyncio.Future[None] = self._loop.create_future()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._watched:
            self._loop.remove_reader(self._descriptor)

    async def flush(self) -> None:
        """Send what the kernel did not accept at once; meanwhile read, as the server may wait for that."""
        while self._connection.flush():
            self._loop.add_writer(self._descriptor, self._wake)
            try:
                await self._wait()
            finally:
                self._loop.remove_writer(self._descriptor)
            self._connection.consume_input()

    async def result(self) -> pq.abc.PGresult | None:
        """Return the next result, or None after the last one of a statement."""
        while self._connection.is_busy():
            await self._wait()
            self._connection.consume_input()
        return self._connection.get_result()

    async def _wait(self) -> None:
        self._ready = self._loop.create_future()
        if not self._watched:
            self._loop.add_reader(self._descriptor, self._wake)
            self._watched = True
        timer = self._loop.call_later(_POLL_SECONDS, self._wake)
        try:
            await self._ready
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)


def _failure(connection: pq.abc.PGconn, result: pq.abc.PGresult) -> psycopg.Error:
    if connection.status != pq.ConnStatus.OK:
        return psycopg.OperationalError("the server closed the connection")
    return pg.error_from_result(result, encoding="utf-8")
