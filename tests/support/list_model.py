"""A model of list filters and sort (lists.md#filter-grammar, lists.md#sort), in plain Python over a few rows.

It is written from that page and not from the code, so that tests can compare the two. Cases that the page leaves open
raise Unspecified.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

Row = Mapping[str, Mapping[str, Any]]
"""Values by column, by the prefix of their entity; the tie-break is `id` under the prefix ""."""

PREFIXES = (
    "task",
    "workflow",
    "launch_plan",
    "execution",
    "node_execution",
    "task_execution",
    "entities",
    "named_entity_metadata",
    "project",
    "signal",
    "admin_tag",
    "execution_admin_tag",
    "execution_tag",
)
_EXPRESSION = re.compile(r"(.+)\((.+),[ \t\f\r]?(.+)\)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d))?", re.ASCII)


class Refused(Exception):
    """The request is INVALID_ARGUMENT."""


class Unspecified(Exception):
    """The page does not specify the result; INVALID_ARGUMENT is also right."""


class Kind(Enum):
    """The type of a column."""

    TEXT = auto()
    NUMBER = auto()  # of 32 bits
    ID = auto()  # of 64
    MOMENT = auto()
    BYTES = auto()


_BOUNDS = {Kind.NUMBER: 2**31, Kind.ID: 2**63}

Columns = Mapping[str, Kind]


def columns(texts: str, numbers: str = "", blobs: str = "", ids: str = "", *, base: bool = True) -> Columns:
    """Return columns by name, with `base` also those of every table."""
    kinds = dict.fromkeys(texts.split(), Kind.TEXT) | dict.fromkeys(numbers.split(), Kind.NUMBER)
    kinds |= dict.fromkeys(blobs.split(), Kind.BYTES) | dict.fromkeys(ids.split(), Kind.ID)
    if base:
        kinds |= {"id": Kind.ID} | dict.fromkeys(("created_at", "updated_at", "deleted_at"), Kind.MOMENT)
    return kinds


@dataclass(frozen=True)
class Shape:
    """The filter columns and sort keys of one list."""

    own: str  # the prefix of its own entity
    entities: Mapping[str, Columns]  # by prefix
    sort_keys: Columns
    unsorted: Callable[[Row], Any]  # the order without a sort key
    sorted_of: str = ""  # the prefix of the entity whose columns sort; the own one when empty


def select(shape: Shape, rows: Sequence[Row], filters: str) -> list[Row]:
    """Return the rows that match `filters`; raise Refused or Unspecified."""
    # Every expression has a comma, so a piece between plus signs without one continues the expression before it.
    tests = [_test(shape, text) for text in re.split(r"\+(?=[^+]*,)", filters)] if filters else []
    return [row for row in rows if all(test(row) for test in tests)]


def order(shape: Shape, rows: Sequence[Row], key: str | None, *, descending: bool) -> list[Row]:
    """Return the rows in the order of a sort key, then of their ids; raise Refused or Unspecified."""
    if key is None:
        return sorted(rows, key=shape.unsorted)
    if key not in shape.sort_keys:
        raise Refused(key)
    if shape.sort_keys[key] is Kind.BYTES:
        raise Unspecified("the order of bytes")
    prefix = shape.sorted_of or shape.own
    return sorted(rows, key=lambda row: (_rank(row[prefix][key]), row[""]["id"]), reverse=descending)


def _rank(value: Any) -> tuple[bool, Any]:
    """Return a sort key by which nulls are the largest."""
    return (True, 0) if value is None else (False, value)


def _test(shape: Shape, text: str) -> Callable[[Row], bool]:
    match = _EXPRESSION.search(text)
    if match is None or match[3].count("+") < text.count("+"):
        raise Refused(text)
    for before in (text[: plus.start()] for plus in re.finditer(r"\+", text)):
        if before.count("(") <= before.count(")"):
            raise Refused("something behind an expression")
    function, name, value = match.groups()
    prefix, dot, column = name.partition(".")
    if not dot or prefix not in PREFIXES:
        prefix, column = shape.own, name
    kind = shape.entities.get(prefix, {}).get(column)
    if kind is None or kind is Kind.BYTES:
        raise Refused(name)
    predicate = _predicate(function, kind, value.split(";"))
    # No comparison with a null is true.
    return lambda row: row[prefix][column] is not None and predicate(row[prefix][column])


def _predicate(function: str, kind: Kind, items: list[str]) -> Callable[[Any], bool]:
    several = {"value_in": True, "value_not_in": False}
    if function in several:
        values = [_value(kind, item) for item in items]
        return lambda value_found: (value_found in values) is several[function]
    if function not in _COMPARISONS and function not in {"contains", "not_like"}:
        raise Refused(function)
    if len(items) > 1:
        raise Refused("several values")
    if function in _COMPARISONS:
        value, compare = _value(kind, items[0]), _COMPARISONS[function]
        return lambda value_found: compare(value_found, value)
    if "\0" in items[0]:
        raise Refused("a text no database can hold")
    if kind is Kind.MOMENT:
        raise Unspecified("how a moment reads")
    like = _like(f"%{items[0]}%" if function == "contains" else items[0])
    return lambda value_found: like(str(value_found)) is (function == "contains")


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value_found, value: value_found == value,
    "ne": lambda value_found, value: value_found != value,
    "gt": lambda value_found, value: value_found > value,
    "gte": lambda value_found, value: value_found >= value,
    "lt": lambda value_found, value: value_found < value,
    "lte": lambda value_found, value: value_found <= value,
}


def _value(kind: Kind, text: str) -> Any:
    if kind in _BOUNDS:
        if not _INTEGER.fullmatch(text) or abs(int(text)) >= _BOUNDS[kind]:
            raise Refused(text)
        return int(text)
    if kind is Kind.MOMENT:
        if not _MOMENT.fullmatch(text):
            raise Unspecified("other writings of a moment")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise Refused(text) from error
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if "\0" in text:
        raise Refused("a text no database can hold")
    return text


def _like(pattern: str) -> Callable[[str], bool]:
    """Return SQL's LIKE with backslash as escape; one at the end is an error only for texts that match so far."""
    parts = re.findall(r"\\.|\\$|[^\\]", pattern, re.DOTALL)
    if parts and parts[-1] == "\\":
        raise Unspecified("a pattern that ends within an escape")
    wild = {"%": ".*", "_": "."}
    regex = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return lambda text: re.fullmatch(regex, text, re.DOTALL) is not None
