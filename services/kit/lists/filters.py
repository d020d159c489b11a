r"""The grammar of filter texts, `func(field,value;value)` joined by `+` (lists.md#filter-grammar).

flyteadmin matches an expression with `(.+)\((.+),\s?(.+)\)`, unanchored and greedy, by an engine without backtracking.
Python's engine backtracks, and a filter of a few thousand brackets and commas would block the process for hours. So the
same parts are searched from the end, each once.

flyteadmin splits at every `+`, also at that of a time zone. Here a value may contain it. Of the pieces between two `+`,
one that has a comma begins an expression, as every expression has a comma and no value has one. A piece without a comma
belongs to the value before it, unless all brackets are closed there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from services.kit.errors import InvalidArgument

# No client comes near these limits. This many conditions take some milliseconds to check, this many values ten, and no
# other call is served meanwhile; the statement of so many conditions is composed in a thread (`StatementCache`).
# PostgreSQL refuses more than 65,535 conditions.
MAX_EXPRESSIONS = 500
MAX_VALUES = 10_000
# Each line is parsed by itself.
MAX_LINES = 1000

# One of these after the comma is not part of the value.
_WHITESPACE = frozenset(" \t\f\r")


@dataclass(frozen=True)
class Expression:
    """One expression of a filter text."""

    text: str
    function: str
    field: str
    values: list[str]


def parse_filters(filters: str) -> Iterator[Expression]:
    """Yield the expressions of a filter text.

    Raises:
        InvalidArgument: there are too many. For a malformed expression it is raised when the iteration reaches it, so
            that the caller reports errors of earlier ones first.
    """
    separators = max(filters.count("+"), filters.count(";"))
    texts = list(_split(filters)) if separators < MAX_VALUES else []
    if not 0 < len(texts) <= MAX_EXPRESSIONS:
        raise InvalidArgument(
            f"invalid value for filters: more than {MAX_EXPRESSIONS} expressions or {MAX_VALUES} values or plus signs"
        )
    if filters.count("\n") >= MAX_LINES:
        raise InvalidArgument("invalid value for filters")
    for text in texts:
        yield _parse(text)


def _split(filters: str) -> Iterator[str]:
    pieces: list[str] = []
    unclosed = 0
    for piece in filters.split("+"):
        if pieces and ("," in piece or unclosed <= 0):
            yield "+".join(pieces)
            pieces, unclosed = [], 0
        pieces.append(piece)
        unclosed += piece.count("(") - piece.count(")")
    yield "+".join(pieces)


def _parse(text: str) -> Expression:
    """Parse one expression: the last bracket ends the value, the last comma before it ends the field."""
    for line in text.split("\n"):
        end = line.rfind(")")
        comma = line.rfind(",", 0, max(end - 1, 0))
        bracket = line.rfind("(", 1, max(comma - 1, 0))
        if bracket > 0:
            value = line[comma + 1 : end]
            if value.count("+") < text.count("+"):
                break  # one is after the bracket that ends the value
            if len(value) > 1 and value[0] in _WHITESPACE:
                value = value[1:]
            return Expression(text, line[:bracket], line[bracket + 1 : comma], value.split(";"))
    raise InvalidArgument("invalid value for filters")
