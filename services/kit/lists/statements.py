"""Parts that the statements of lists share: the statement cache, clauses for the scope of a list, limit and offset."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from cachetools import LRUCache
from sqlalchemy import BigInteger, ColumnElement, Select, Table, bindparam
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import ClauseElement

from services.kit.rpc.cpu_pool import CpuPool

# Clients send lists of some dozens of shapes; the texts of rarer ones are evicted. A text has about a kilobyte.
_MOST_CACHED_TEXTS = 500
# Clients' filters have a few conditions. Some hundred, which are allowed, take 20 ms to compose.
_MOST_CACHED_CONDITIONS = 20

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it unannotated


class StatementCache:
    """A cache of the texts of composed statements; composing one costs as much as the rest of the call."""

    def __init__(self) -> None:
        # A pool of its own: composing takes milliseconds, and in that of the process it would wait for compilations.
        self._cpu_pool = CpuPool()
        self._texts: LRUCache[Hashable, str] = LRUCache(_MOST_CACHED_TEXTS)

    async def text_of(self, shape: Hashable, compose: Callable[[], Executable], conditions: int) -> str:
        """Return the text of the statement that `compose` returns.

        Args:
            shape: the key; statements of one shape have the same text and differ only in parameters.
            compose: makes the statement when it is not cached.
            conditions: how many the statement has. One with many is composed in a thread and not cached.
        """
        if conditions > _MOST_CACHED_CONDITIONS:
            return await self._cpu_pool.run(lambda: compiled(compose())[0])
        text = self._texts.get(shape)
        if text is None:
            text = self._texts[shape] = compiled(compose())[0]
        return text


def compiled(statement: Executable) -> tuple[str, dict[str, Any]]:
    """Return the SQL text of `statement` and its parameters, in psycopg's form."""
    if not isinstance(statement, ClauseElement):
        raise TypeError(f"{type(statement).__name__} is not a statement that compiles")
    result = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(result), dict(result.params)


STATEMENT_CACHE = StatementCache()
"""That of the process."""


def scope_conditions(table: Table, scope: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """Return a clause for each column with a value in `scope`; the values are parameters named as the columns."""
    return [table.c[column] == bindparam(column, type_=table.c[column].type) for column in given_columns(scope)]


def given_columns(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that have a value in `scope`; an empty value means any."""
    return tuple(column for column, value in scope.items() if value)


def paged(statement: Select[Any]) -> Select[Any]:
    """Return `statement` with limit and offset, as parameters named so."""
    # A limit may be a large unsigned 32-bit integer.
    return statement.limit(bindparam("limit", type_=BigInteger)).offset(bindparam("offset", type_=BigInteger))
