"""The functions of filters as SQL clauses (lists.md#filter-functions); values are always parameters."""

import operator as op
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, String, all_, any_, bindparam, cast, func, literal_column, not_

from services.kit.errors import InvalidArgument

Operator = Callable[[ColumnElement[Any], str, list[Any]], tuple[ColumnElement[bool], Any]]
"""Takes a column, a parameter name and the values of the filter; returns the clause and the parameter's value."""


# Limits of all patterns of a filter together, and of the text that each is compared with. PostgreSQL tries a pattern at
# each position of the text, and statement_timeout interrupts it only between rows: a pattern of a few MB on a text of
# 100 kB took minutes or more, 500 patterns of 1,000 characters half a minute, and occupied a connection meanwhile. With
# these limits a row takes 0.1 s at most.
MOST_PATTERN_CHARACTERS = 1000
MOST_TEXT_CHARACTERS = 10_000
# Conditions that are subqueries, in one filter. Planning 20 takes some 40 ms, 250 took ten seconds and 150 MB or more.
MOST_SUBQUERIES = 20


def _compare(compare: Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]]) -> Operator:
    """Return an operator that compares the column with one value of its type."""

    def operator(column: ColumnElement[Any], name: str, values: list[Any]) -> tuple[ColumnElement[bool], Any]:
        compared = bindparam(name, values[0], type_=column.type)
        return compare(column, compared), values[0]

    return operator


def _pattern(pattern: str, *, matches: bool) -> Operator:
    """Return an operator that matches the column as text with the value inserted into `pattern`."""

    def operator(column: ColumnElement[Any], name: str, values: list[Any]) -> tuple[ColumnElement[bool], Any]:
        text = pattern.format(values[0])
        prefix = func.left(cast(column, String), literal_column(str(MOST_TEXT_CHARACTERS)))
        like = prefix.like(bindparam(name, text, type_=String))
        return (like if matches else not_(like)), text

    return operator


def _any(column: ColumnElement[Any], name: str, values: list[Any]) -> tuple[ColumnElement[bool], Any]:
    """Compare with all values as one array, so that the statement's text does not depend on their number."""
    return column == any_(bindparam(name, values, type_=ARRAY(column.type))), values


def _none(column: ColumnElement[Any], name: str, values: list[Any]) -> tuple[ColumnElement[bool], Any]:
    return column != all_(bindparam(name, values, type_=ARRAY(column.type))), values


SEVERAL_VALUES = frozenset({"value_in", "value_not_in"})
# Functions whose value may have the wildcards % and _ (lists.md#filter-functions).
PATTERNS = frozenset({"contains", "not_like"})
OPERATORS: Mapping[str, Operator] = {
    "contains": _pattern("%{}%", matches=True),
    "not_like": _pattern("{}", matches=False),
    "gt": _compare(op.gt),
    "gte": _compare(op.ge),
    "lt": _compare(op.lt),
    "lte": _compare(op.le),
    "eq": _compare(op.eq),
    "ne": _compare(op.ne),
    "value_in": _any,
    "value_not_in": _none,
}


class Work:
    """What the conditions of one filter cost the database: only their sum limits that."""

    def __init__(self) -> None:
        self._pattern_characters = 0
        self._subqueries = 0

    def add(self, function: str, text: str, *, by_subquery: bool) -> None:
        """Count a condition by its function and value; raise InvalidArgument when all so far cost too much."""
        if function in PATTERNS:
            self._pattern_characters += len(text)
            if self._pattern_characters > MOST_PATTERN_CHARACTERS:
                raise InvalidArgument(
                    f"invalid value for filters: more than {MOST_PATTERN_CHARACTERS} characters in patterns"
                )
        self._subqueries += by_subquery
        if self._subqueries > MOST_SUBQUERIES:
            raise InvalidArgument(
                f"invalid value for filters: more than {MOST_SUBQUERIES} expressions on tags or states of names"
            )
