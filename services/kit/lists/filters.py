r"""The grammar of filter texts, `func(field,value;value)` joined by `+` (registry.md 4.2).

The reference finds the parts of an expression by `(.+)\((.+),\s?(.+)\)`, unanchored and greedy, with an engine that
never goes back. Python's does, and a filter of a few thousand brackets and commas would hold the process up for hours;
so the same parts are looked for from behind, each once.

The reference splits at every `+`, also at that of a time zone. Here a value may hold it: every expression has a comma
and no value has one, so a piece without a comma goes on with the value before it, unless all brackets are closed there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from services.kit.errors import InvalidArgument

# No client comes near these numbers. So many conditions take some 20 ms to check and to compose, so many values half of
# that; during this no other call is served. PostgreSQL gives up on more than 65,535 conditions.
MAX_EXPRESSIONS = 500
MAX_VALUES = 10_000
# A text of one line is looked at once; each further line is another text.
MAX_LINES = 1000

# One of these behind the comma belongs to no value.
_BLANKS = frozenset(" \t\f\r")


@dataclass(frozen=True)
class Expression:
    """One expression of a filter text."""

    text: str
    function: str
    field: str
    values: list[str]


def expressions(filters: str) -> Iterator[Expression]:
    """Yield the expressions of a filter text; raises InvalidArgument at one that is none.

    Not before: what is wrong with the expressions in front of it is told first.
    """
    signs = max(filters.count("+"), filters.count(";"))
    texts = list(_texts(filters)) if signs < MAX_VALUES else []
    if not 0 < len(texts) <= MAX_EXPRESSIONS:
        raise InvalidArgument(
            f"invalid value for filters: more than {MAX_EXPRESSIONS} expressions or {MAX_VALUES} values or plus signs"
        )
    if filters.count("\n") >= MAX_LINES:
        raise InvalidArgument("invalid value for filters")
    for text in texts:
        yield _parsed(text)


def _texts(filters: str) -> Iterator[str]:
    pieces: list[str] = []
    unclosed = 0
    for piece in filters.split("+"):
        if pieces and ("," in piece or unclosed <= 0):
            yield "+".join(pieces)
            pieces, unclosed = [], 0
        pieces.append(piece)
        unclosed += piece.count("(") - piece.count(")")
    yield "+".join(pieces)


def _parsed(text: str) -> Expression:
    """Take an expression apart: the last bracket ends the value, the last comma before it the field."""
    for line in text.split("\n"):
        end = line.rfind(")")
        comma = line.rfind(",", 0, max(end - 1, 0))
        bracket = line.rfind("(", 1, max(comma - 1, 0))
        if bracket > 0:
            value = line[comma + 1 : end]
            if value.count("+") < text.count("+"):
                break  # one stands behind the bracket that ends the value
            if len(value) > 1 and value[0] in _BLANKS:
                value = value[1:]
            return Expression(text, line[:bracket], line[bracket + 1 : comma], value.split(";"))
    raise InvalidArgument("invalid value for filters")
