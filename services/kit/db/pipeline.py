"""Statements of one transaction that travel together: one write to the server, one wait for all its answers.

The driver's own pipeline writes and wakes up for every statement by itself; in a transaction of ten that was most of
what a lone event cost the executions service (docs/decisions/0015-one-lane-statements-by-libpq.md). This one speaks to
the driver's libpq (`psycopg.pq`) with statements that the server has prepared, values in binary format (`pg_values`).
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

# A wait looks at its socket by itself after this: libuv stops watching one that has an error, as when a server dies
# with something of ours unread, and uvloop then tells nobody. Reading finds the error.
_LOOK_SECONDS = 0.25

_PARAMETER = re.compile(r"%\((\w+)\)b")
_BINARY = 1
_GOOD = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}

_numbers = itertools.count()


class Statement:
    """SQL with parameters such as `%(name)b`, prepared once by every connection that uses it."""

    def __init__(self, sql: str) -> None:
        self.parameters = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
        places = {name: f"${place}" for place, name in enumerate(self.parameters, 1)}
        self.sql = _PARAMETER.sub(lambda match: places[match[1]], sql).encode()
        self.name = b"flyteplane_%d" % next(_numbers)
        self.formats = [_BINARY] * len(self.parameters)


@dataclass(slots=True)
class Answer:
    """What a statement answers: rows of values in binary format, there once the pipeline has run."""

    rows: Sequence[tuple[bytes | None, ...]] = ()


@dataclass(slots=True)
class _Sent:
    """A request under way, in the order of its answers; one without `answer` prepares."""

    statement: Statement
    answer: Answer | None = None


BEGIN = Statement("BEGIN")
COMMIT = Statement("COMMIT")
ROLLBACK = Statement("ROLLBACK")


@dataclass
class Pipeline:
    """Statements for one connection. `put` them, then `run`; between two runs the connection is anybody's to use."""

    connection: psycopg.AsyncConnection[TupleRow]
    _prepared: set[bytes]  # statements, by name, that the connection has prepared
    _waiting: list[tuple[Statement, list[bytes | None], Answer]] = field(default_factory=list)

    def put(self, statement: Statement, values: Mapping[str, bytes | None] | None = None) -> Answer:
        """Have `statement` run with the next ones."""
        answer = Answer()
        parameters = [values[name] for name in statement.parameters] if values else []
        self._waiting.append((statement, parameters, answer))
        return answer

    async def run(self) -> None:
        """Run what was put; raises the psycopg.Error of the first statement that failed, those behind it did not run.

        Whoever is cancelled meanwhile leaves the connection closed.
        """
        connection = self.connection.pgconn
        try:
            connection.enter_pipeline_mode()
            sent = self._send(connection)
            failed = await self._answers(connection, sent)
            connection.exit_pipeline_mode()
        except BaseException:
            connection.finish()
            raise
        if failed is not None:
            raise failed

    async def undo(self, statement: Statement) -> None:
        """Forget what was put and roll back by `statement`; a connection that is lost has done so itself."""
        self._waiting.clear()
        connection = self.connection.pgconn
        if connection.status == pq.ConnStatus.OK and connection.transaction_status != pq.TransactionStatus.IDLE:
            self.put(statement)
            await self.run()

    def _send(self, connection: pq.abc.PGconn) -> list[_Sent]:
        sent = []
        preparing: set[bytes] = set()
        for statement, parameters, answer in self._waiting:
            if statement.name not in self._prepared and statement.name not in preparing:
                connection.send_prepare(statement.name, statement.sql)
                preparing.add(statement.name)
                sent.append(_Sent(statement))
            connection.send_query_prepared(statement.name, parameters, statement.formats, _BINARY)
            sent.append(_Sent(statement, answer))
        self._waiting.clear()
        connection.pipeline_sync()
        return sent

    async def _answers(self, connection: pq.abc.PGconn, sent: Sequence[_Sent]) -> psycopg.Error | None:
        """Take every answer; answers the first failure."""
        failed: psycopg.Error | None = None
        with _Socket(connection) as socket:
            await socket.flush()
            for one in sent:
                while (result := await socket.result()) is not None:
                    if result.status in _GOOD:
                        self._take(one, result)
                    elif failed is None:
                        failed = _failure(connection, result)
            await socket.result()  # the end of this round
        return failed

    def _take(self, one: _Sent, result: pq.abc.PGresult) -> None:
        if one.answer is None:
            self._prepared.add(one.statement.name)
        else:
            columns = range(result.nfields)
            value = result.get_value
            one.answer.rows = [tuple([value(row, column) for column in columns]) for row in range(result.ntuples)]


class _Socket:
    """The event loop's view of a connection's socket; watched from the first wait to the end of the block."""

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self._connection = connection
        self._number = connection.socket
        self._loop = asyncio.get_running_loop()
        self._watched = False
        self._ready: asyncio.Future[None] = self._loop.create_future()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._watched:
            self._loop.remove_reader(self._number)

    async def flush(self) -> None:
        """Send what the kernel does not take at once; meanwhile read, as the server may wait for that."""
        while self._connection.flush():
            self._loop.add_writer(self._number, self._wake)
            try:
                await self._woken()
            finally:
                self._loop.remove_writer(self._number)
            self._connection.consume_input()

    async def result(self) -> pq.abc.PGresult | None:
        """The next result, or None behind the last one of a statement."""
        while self._connection.is_busy():
            await self._woken()
            self._connection.consume_input()
        return self._connection.get_result()

    async def _woken(self) -> None:
        self._ready = self._loop.create_future()
        if not self._watched:
            self._loop.add_reader(self._number, self._wake)
            self._watched = True
        timer = self._loop.call_later(_LOOK_SECONDS, self._wake)
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
