"""List machinery: limit, token, filters and sort of every List RPC, by what each list declares of its columns.

A store declares a `Listing` beside its tables; a handler turns a request into a `Plan` before anything is read, so that
a bad request is refused first. Grammar, order of checks and texts: registry.md section 4, executions.md 1.2, 1.3, 5.2.
"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from sqlalchemy import BigInteger, ColumnElement

from services.kit.errors import InvalidArgument
from services.kit.lists.filters import Expression, expressions
from services.kit.lists.operators import MOST_PATTERN_CHARACTERS, OPERATORS, PATTERNS, SEVERAL_VALUES
from services.kit.protobuf.durations import parse_duration

# Names by which filters prefix columns, and the short code that stands for the entity in messages (registry.md 4.4).
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
# What Flyte's API documentation tells of a list that names no limit; flyteadmin refuses it.
DEFAULT_LIMIT = 100
# PostgreSQL's bigint and integer; a larger number can be in no such column.
_MAX_BIGINT = 2**63 - 1
_MAX_INTEGER = 2**31 - 1
# Nineteen digits hold every bigint; Python refuses to convert texts of thousands of digits.
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
# RFC 3339 with up to nine fraction digits, of which PostgreSQL keeps six.
_FRACTION = re.compile(r"(\.\d{1,6})\d*")


class Kind(Enum):
    """How the text of a filter's value becomes a value of the column."""

    TEXT = auto()
    INTEGER = auto()
    TIMESTAMP = auto()
    DURATION = auto()  # stored as nanoseconds; seconds or a Go duration in filters
    BYTES = auto()  # known as a name, but nothing can be compared with it


@dataclass(frozen=True)
class Column:
    """A column as filters and sorts name it; `names` maps enum names to the integers that are stored."""

    expression: ColumnElement[Any]
    kind: Kind = Kind.TEXT
    names: Mapping[str, int] = field(default_factory=dict)
    related: Callable[[ColumnElement[bool]], ColumnElement[bool]] | None = None
    """For a column of another table: makes a clause about that table's row one about the list's. None sorts by it."""


@dataclass(frozen=True)
class Condition:
    """One checked expression of a filter text. Its clause names its value `parameter`."""

    prefix: str  # "" for the list's own entity
    column: str
    function: str
    clause: ColumnElement[bool]
    parameter: str
    value: Any


@dataclass(frozen=True)
class Entity:
    """What one entity's columns are called; `code` stands for it in messages."""

    code: str
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class ListQuery:
    """A checked list request: what to select, in which order, which page."""

    conditions: Sequence[Condition]
    order_by: Sequence[ColumnElement[Any]]
    limit: int
    offset: int
    order: tuple[str | None, int] = (None, DESCENDING)
    """The sort key and direction that `order_by` was made for."""

    @property
    def where(self) -> list[ColumnElement[bool]]:
        """The clauses of all conditions."""
        return [condition.clause for condition in self.conditions]

    @property
    def entities(self) -> set[str]:
        """Prefixes of the joined entities that filters name."""
        return {condition.prefix for condition in self.conditions if condition.prefix}

    @property
    def shape(self) -> Hashable:
        """Equal for plans of one listing whose statements have the same text and differ in `values` alone."""
        conditions = tuple((condition.prefix, condition.column, condition.function) for condition in self.conditions)
        return (conditions, self.order)

    @property
    def values(self) -> dict[str, Any]:
        """The values of all conditions by the names that their clauses give them, and `limit` and `offset`."""
        values = {condition.parameter: condition.value for condition in self.conditions}
        return {**values, "limit": self.limit, "offset": self.offset}

    @property
    def filtered_fields(self) -> set[str]:
        """Names of the columns that filters name, of whatever entity."""
        return {condition.column for condition in self.conditions}

    def next_token(self, rows: int, *, cut: bool = False) -> str:
        """The token of the next page: empty unless this page is full (registry.md 4.8), or was `cut` for its size."""
        return str(self.offset + rows) if rows == self.limit or cut else ""


@dataclass(frozen=True)
class Listing:
    """A list's own entity and those its filters may name by prefix; `prefix` is the own entity's."""

    prefix: str
    primary: Entity
    tie_break: ColumnElement[Any]
    joined: Mapping[str, Entity] = field(default_factory=dict)
    unsorted: Sequence[ColumnElement[Any]] = ()
    """The order without `sort_by`; the tie-break when empty."""
    sort_keys: Mapping[str, Column] | None = None
    """What may be sorted by, where that is not what the own entity's filters may name."""

    def plan(
        self,
        *,
        name: str,
        limit: int,
        token: str,
        filters: str,
        sort_key: str | None,
        sort_direction: int = DESCENDING,
    ) -> ListQuery:
        """Check a request in the reference's order: limit, filters, sort, token; raises InvalidArgument.

        `name` is the RPC's, for the token's message; `limit` 0 and `sort_key` None mean that none was asked for.
        """
        if limit < 0:
            raise InvalidArgument("invalid value for limit")
        conditions = self.conditions(filters)
        order_by = self.order_by(sort_key, sort_direction)
        return ListQuery(
            conditions, order_by, limit or DEFAULT_LIMIT, offset_of(token, name), (sort_key, sort_direction)
        )

    def conditions(self, filters: str) -> list[Condition]:
        """Parse and check a filter text; nothing for an empty one."""
        if not filters:
            return []
        return [self._condition(expression, f"filter_{at}") for at, expression in enumerate(expressions(filters))]

    def order_by(self, key: str | None, direction: int) -> list[ColumnElement[Any]]:
        """The order for a sort key, the tie-break in the same direction behind it."""
        if key is None:
            return list(self.unsorted) or [self.tie_break.asc()]
        column = (self.primary.columns if self.sort_keys is None else self.sort_keys).get(key)
        if column is None:
            raise InvalidArgument(f"invalid sort key '{key}'")
        if direction not in {ASCENDING, DESCENDING}:
            raise InvalidArgument(f"invalid sort order specified: {direction}")
        keys = (column.expression, self.tie_break)
        return [key.asc() if direction == ASCENDING else key.desc() for key in keys]

    def _condition(self, expression: Expression, parameter: str) -> Condition:
        function = expression.function
        prefix, entity, column_name = self._resolve(expression.field)
        column = entity.columns.get(column_name)
        if column is None:
            raise InvalidArgument(f"'{entity.code}.{column_name}' is invalid filter")
        if column.kind is Kind.BYTES:
            raise InvalidArgument(f"'{entity.code}.{column_name}' cannot be compared in filters")
        values = [_value(column, column_name, item, function) for item in expression.values]
        operator = OPERATORS.get(function)
        if operator is None:
            raise InvalidArgument(f"unrecognized filter function: {function}")
        if len(values) > 1 and function not in SEVERAL_VALUES:
            raise InvalidArgument(f"invalid single value filter expression: {expression.text}")
        own = "" if prefix == self.prefix else prefix
        clause, compared = operator(column.expression, parameter, values)
        if column.related is not None:
            clause = column.related(clause)
        return Condition(own, column_name, function, clause, parameter, compared)

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


def offset_of(token: str, name: str) -> int:
    """The offset that `token` stands for; raises InvalidArgument naming the RPC `name` (registry.md section 3)."""
    if not token:
        return 0
    offset = int(token) if _INTEGER.fullmatch(token) else -1
    if not 0 <= offset <= _MAX_BIGINT:
        raise InvalidArgument(f"invalid pagination token {token}" + (f" for {name}" if name else ""))
    return offset


def _value(column: Column, name: str, text: str, function: str) -> Any:
    if "\0" in text:
        raise InvalidArgument(f"a value of {name} cannot hold a NUL character")
    if function in PATTERNS:
        if len(text) > MOST_PATTERN_CHARACTERS:
            raise InvalidArgument(f"a pattern for {name} may have {MOST_PATTERN_CHARACTERS} characters")
        # An escape needs something to escape, which `contains` adds; PostgreSQL would find out row by row.
        if function == "not_like" and (len(text) - len(text.rstrip("\\"))) % 2:
            raise InvalidArgument(f"'{text}' is not a pattern for {name}: it ends with an escape character")
        return text
    convert = _CONVERSIONS.get(column.kind)
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


_CONVERSIONS: Mapping[Kind, Callable[[Column, str, str], Any]] = {
    Kind.INTEGER: _integer,
    Kind.TIMESTAMP: _timestamp,
    Kind.DURATION: _duration,
}
