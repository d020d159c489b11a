"""Parts that the statements of lists share: the statement cache, clauses for the scope of a list, limit and offset."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Table, bindparam

from services.kit.db.database import StatementCache

STATEMENT_CACHE = StatementCache()


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
