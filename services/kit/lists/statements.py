"""What the statements of lists have in common: their texts are composed once, and place and page are parameters."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Table, bindparam

from services.kit.db.database import StatementCache

TEXTS = StatementCache()


def within(table: Table, place: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """Return clauses for the columns that `place` names; their values are parameters of the same names."""
    return [table.c[column] == bindparam(column, type_=table.c[column].type) for column in given(place)]


def given(place: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which columns `place` has a value for."""
    return tuple(column for column, value in place.items() if value)


def paged(statement: Select[Any]) -> Select[Any]:
    """Return `statement` with a plan's limit and offset, which are parameters."""
    # A limit may be as large as an unsigned integer.
    return statement.limit(bindparam("limit", type_=BigInteger)).offset(bindparam("offset", type_=BigInteger))
