"""List queries: limit, token, filters and sort of every list RPC, checked against the columns that a list declares.

A store declares a `Listing` next to its tables; a handler turns a request into a `ListQuery` before any read, so that a
bad request is refused first. Grammar, order of checks and messages are in lists.md#order-of-checks and the sections
after it.
"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from sqlalchemy import BigInteger, ColumnElement

from services.kit.errors import InvalidArgument
from services.kit.lists.filters import Expression, parse_filters
from services.kit.lists.operators import OPERATORS, PATTERNS, SEVERAL_VALUES, Work
from services.kit.protobuf.durations import parse_duration

# Flyte's entities, by which columns are prefixed in filters, and the entity's code in messages
# (lists.md#filter-entities).
ENTITY_CODES = {
    "task": "t",
    "workflow": "w",
    "launch_plan": "l",
    "execution": "e",
    "node_execution": "ne",
    "task_execution": "te",
    "entities": "nen",
    "named_entity_metadata": "nem",
    "project": "p",
    "signal": "s",
    "admin_tag": "at",
    "execution_admin_tag": "eat",
    "execution_tag": "et",
}

DESCENDING, ASCENDING = 0, 1
# The limit of a request without one, as Flyte's API documentation says (lists.md#limit); flyteadmin refuses such a
# request.
DEFAULT_LIMIT = 100
# A higher limit is as this one: a row takes hundreds of bytes in memory, however small it is.
MOST_ROWS = 50_000
# PostgreSQL's bigint and integer; no such column can have a larger number.
_MAX_BIGINT = 2**63 - 1
_MAX_INTEGER = 2**31 - 1
# Nineteen digits are enough for a bigint; Python refuses to convert strings of thousands of digits.
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
# RFC 3339 allows nine fraction digits here, of which PostgreSQL stores six.
_FRACTION = re.compile(r"(\.\d{1,6})\d*")


class ValueType(Enum):
    """How the text of a column's values in filters is converted."""

    TEXT = auto()
    INTEGER = auto()
    TIMESTAMP = auto()
    DURATION = auto()  # stored as nanoseconds; seconds or a Go duration in filters
    BYTES = auto()  # a known name, but not comparable


@dataclass(frozen=True)
class Column:
    """A column that filters and sort keys may name; `names` maps enum names to the stored integers."""

    expression: ColumnElement[Any]
    value_type: ValueType = ValueType.TEXT
    names: Mapping[str, int] = field(default_factory=dict)
    related: Callable[[ColumnElement[bool]], ColumnElement[bool]] | None = None
    """For a column of another table: turns a clause on that table into one on the list's. Not for sort keys."""


@dataclass(frozen=True)
class Condition:
    """A checked expression of a filter text, as SQL."""

    prefix: str  # "" for the list's own entity
    column: str
    function: str
    clause: ColumnElement[bool]
    parameter: str  # the name of the value in `clause`
    value: Any


@dataclass(frozen=True)
class Entity:
    """An entity's columns by name; `code` is its name in messages."""

    code: str
    columns: Mapping[str, Column]
    by_subquery: bool = False
    """The entity is another table, of which conditions look up a row for each of the list: by subqueries."""


@dataclass(frozen=True)
class ListQuery:
    """A checked list request: conditions, order, limit and offset."""

    conditions: Sequence[Condition]
    order_by: Sequence[ColumnElement[Any]]
    limit: int
    offset: int
    order: tuple[str | None, int] = (None, DESCENDING)
    """Sort key and direction of the request."""

    @property
    def where(self) -> list[ColumnElement[bool]]:
        """The clauses of all conditions."""
        return [condition.clause for condition in self.conditions]

    @property
    def entities(self) -> set[str]:
        """The prefixes of joined entities in the filters."""
        return {condition.prefix for condition in self.conditions if condition.prefix}

    @property
    def shape(self) -> Hashable:
        """A key for the statement cache: queries of one listing with equal shapes differ only in `values`."""
        conditions = tuple((condition.prefix, condition.column, condition.function) for condition in self.conditions)
        return (conditions, self.order)

    @property
    def values(self) -> dict[str, Any]:
        """All parameters by name: the values of the conditions, `limit` and `offset`."""
        values = {condition.parameter: condition.value for condition in self.conditions}
        return {**values, "limit": self.limit, "offset": self.offset}

    @property
    def filtered_fields(self) -> set[str]:
        """The names of columns in the filters, of any entity."""
        return {condition.column for condition in self.conditions}

    def next_token(self, rows: int, *, more: bool = False) -> str:
        """Return the token of the next page: empty unless this page is full or more rows follow (lists.md#token)."""
        return str(self.offset + rows) if rows == self.limit or more else ""


@dataclass(frozen=True)
class Listing:
    """The declaration of a list: its own entity with its prefix, and the entities that filters may join."""

    prefix: str
    primary: Entity
    tie_break: ColumnElement[Any]
    joined: Mapping[str, Entity] = field(default_factory=dict)
    default_order: Sequence[ColumnElement[Any]] = ()
    """The order of a request without `sort_by`; the tie-break when empty."""
    sort_keys: Mapping[str, Column] | None = None
    """The allowed sort keys, unless they are the columns of the own entity."""

    def query(
        self,
        *,
        name: str,
        limit: int,
        token: str,
        filters: str,
        sort_key: str | None,
        sort_direction: int = DESCENDING,
    ) -> ListQuery:
        """Return the query of a request, checked in flyteadmin's order: filters, sort, token.

        Args:
            name: the RPC, for the message about a bad token.
            limit: 0 for the default; at most MOST_ROWS are returned.
            token: page token of the request.
            filters: filter text of the request.
            sort_key: None without `sort_by`.
            sort_direction: ASCENDING or DESCENDING.

        Raises:
            InvalidArgument: the first check that fails.
        """
        conditions = self.conditions(filters)
        order_by = self.order_by(sort_key, sort_direction)
        return ListQuery(
            conditions,
            order_by,
            min(limit or DEFAULT_LIMIT, MOST_ROWS),
            parse_token(token, name),
            (sort_key, sort_direction),
        )

    def conditions(self, filters: str) -> list[Condition]:
        """Return the checked conditions of a filter text, in order."""
        if not filters:
            return []
        work = Work()
        return [
            self._condition(expression, f"filter_{at}", work) for at, expression in enumerate(parse_filters(filters))
        ]

    def order_by(self, key: str | None, direction: int) -> list[ColumnElement[Any]]:
        """Return the order for a sort key, followed by the tie-break in the same direction."""
        if key is None:
            return list(self.default_order) or [self.tie_break.asc()]
        column = (self.primary.columns if self.sort_keys is None else self.sort_keys).get(key)
        if column is None:
            raise InvalidArgument(f"invalid sort key '{key}'")
        if direction not in {ASCENDING, DESCENDING}:
            raise InvalidArgument(f"invalid sort order specified: {direction}")
        keys = (column.expression, self.tie_break)
        return [key.asc() if direction == ASCENDING else key.desc() for key in keys]

    def _condition(self, expression: Expression, parameter: str, work: Work) -> Condition:
        function = expression.function
        prefix, entity, column_name = self._resolve(expression.field)
        column = entity.columns.get(column_name)
        if column is None:
            raise InvalidArgument(f"'{entity.code}.{column_name}' is invalid filter")
        if column.value_type is ValueType.BYTES:
            raise InvalidArgument(f"'{entity.code}.{column_name}' cannot be compared in filters")
        values = [_convert(column, column_name, item, function) for item in expression.values]
        operator = OPERATORS.get(function)
        if operator is None:
            raise InvalidArgument(f"unrecognized filter function: {function}")
        if len(values) > 1 and function not in SEVERAL_VALUES:
            raise InvalidArgument(f"invalid single value filter expression: {expression.text}")
        work.add(function, expression.values[0], by_subquery=entity.by_subquery or column.related is not None)
        condition_prefix = "" if prefix == self.prefix else prefix
        clause, compared = operator(column.expression, parameter, values)
        if column.related is not None:
            clause = column.related(clause)
        return Condition(condition_prefix, column_name, function, clause, parameter, compared)

    def _resolve(self, name: str) -> tuple[str, Entity, str]:
        prefix, dot, column = name.partition(".")
        if not dot or prefix not in ENTITY_CODES:
            return "", self.primary, name
        if prefix == self.prefix:
            return prefix, self.primary, column
        entity = self.joined.get(prefix)
        if entity is None:
            raise InvalidArgument(f"'{ENTITY_CODES[prefix]}' entity is not allowed in filters")
        return prefix, entity, column


def parse_token(token: str, name: str) -> int:
    """Return the offset of a page token; raise InvalidArgument with the RPC's `name` (lists.md#token)."""
    if not token:
        return 0
    offset = int(token) if _INTEGER.fullmatch(token) else -1
    if not 0 <= offset <= _MAX_BIGINT:
        raise InvalidArgument(f"invalid pagination token {token}" + (f" for {name}" if name else ""))
    return offset


def _convert(column: Column, name: str, text: str, function: str) -> Any:
    if "\0" in text:
        raise InvalidArgument(f"a value of {name} cannot hold a NUL character")
    if function in PATTERNS:
        # A backslash must be followed by a character. `contains` appends a %, so there is one; a pattern of
        # `not_like` that ends with a backslash would make PostgreSQL fail at the first row that it compares.
        if function == "not_like" and (len(text) - len(text.rstrip("\\"))) % 2:
            raise InvalidArgument(f"'{text}' is not a pattern for {name}: it ends with an escape character")
        return text
    convert = _CONVERSIONS.get(column.value_type)
    return text if convert is None else convert(column, name, text)


def _integer(column: Column, name: str, text: str) -> int:
    if text in column.names:
        return column.names[text]
    largest = _MAX_BIGINT if isinstance(column.expression.type, BigInteger) else _MAX_INTEGER
    if not _INTEGER.fullmatch(text) or abs(int(text)) > largest:
        raise InvalidArgument(f"'{text}' is not a value of {name}")
    return int(text)


def _timestamp(_: Column, __: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    except ValueError as error:
        raise InvalidArgument(f"Timestamp {text} must conform to RFC3339 Nano spec") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _duration(_: Column, __: str, text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidArgument(f"Failed to parse duration [{text}]") from error


_CONVERSIONS: Mapping[ValueType, Callable[[Column, str, str], Any]] = {
    ValueType.INTEGER: _integer,
    ValueType.TIMESTAMP: _timestamp,
    ValueType.DURATION: _duration,
}
