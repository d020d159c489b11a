"""The functions of filters as SQL (registry.md 4.3): clauses whose text does not depend on the values compared with."""

import operator as operators
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, String, all_, any_, bindparam, cast, func, literal_column, not_

Operator = Callable[[ColumnElement[Any], str, list[Any]], tuple[ColumnElement[bool], Any]]
"""Makes the clause for a column and a parameter of that name, and the parameter's value of those in the filter."""


# Of a pattern, and of the text it is compared with. PostgreSQL tries the pattern at each place of the text, and no time
# limit stops it meanwhile: a few MB and a hundred kB took minutes at least, and a connection each.
MOST_PATTERN_CHARACTERS = 1000
MOST_TEXT_CHARACTERS = 10_000


def _one(compare: Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]]) -> Operator:
    """Compare with the one value, in the column's own type."""

    def operator(column: ColumnElement[Any], name: str, values: list[Any]) -> tuple[ColumnElement[bool], Any]:
        compared = bindparam(name, values[0], type_=column.type)
        return compare(column, compared), values[0]

    return operator


def _pattern(pattern: str, *, matches: bool) -> Operator:
    """Compare the column as text with the value put into `pattern`."""

    def operator(column: ColumnElement[Any], name: str, values: list[Any]) -> tuple[ColumnElement[bool], Any]:
        text = pattern.format(values[0])
        looked_at = func.left(cast(column, String), literal_column(str(MOST_TEXT_CHARACTERS)))
        like = looked_at.like(bindparam(name, text, type_=String))
        return (like if matches else not_(like)), text

    return operator


def _any(column: ColumnElement[Any], name: str, values: list[Any]) -> tuple[ColumnElement[bool], Any]:
    """Compare with all values as one array: a statement's text then does not depend on how many there are."""
    return column == any_(bindparam(name, values, type_=ARRAY(column.type))), values


def _none(column: ColumnElement[Any], name: str, values: list[Any]) -> tuple[ColumnElement[bool], Any]:
    return column != all_(bindparam(name, values, type_=ARRAY(column.type))), values


SEVERAL_VALUES = frozenset({"value_in", "value_not_in"})
# `contains` takes % and _ in the value as wildcards, as the reference does (registry.md 4.3).
PATTERNS = frozenset({"contains", "not_like"})
OPERATORS: Mapping[str, Operator] = {
    "contains": _pattern("%{}%", matches=True),
    "not_like": _pattern("{}", matches=False),
    "gt": _one(operators.gt),
    "gte": _one(operators.ge),
    "lt": _one(operators.lt),
    "lte": _one(operators.le),
    "eq": _one(operators.eq),
    "ne": _one(operators.ne),
    "value_in": _any,
    "value_not_in": _none,
}
