"""Hypothesis strategies for list requests, usual and hostile ones: filters, sorts, tokens and limits of every kind."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.support.list_model import PREFIXES, Kind, Shape

LARGEST_OFFSET = 2**63 - 1
LARGEST_LIMIT = 2**32 - 1
DEFAULT_LIMIT = 100

_COMPARISONS = ["eq", "ne", "gt", "gte", "lt", "lte"]
_LIKES = ["contains", "not_like"]
_SETS = ["value_in", "value_not_in"]
_NUMBERS = ["0", "1", "2", "3", "-1", "+4", "99999999999", str(LARGEST_OFFSET), str(-LARGEST_OFFSET)]
_MOMENTS = ["2020-01-01", "2100-01-01T00:00:00Z", "1999-12-31T23:59:59.999999+14:00", "2100-01-01T00:00:00+00:00"]
_PATTERNS = ["%", "_", "%\\%%", "_____", "a%a", "%v_", "+", "a+(b)+"]
_HOSTILE = ["\\", "\0", "'", "NULL", "𝕏", "--", "$1", "%(x)s", "1.5", " 1", "9" * 19, "2020-13-01", "now"]


@dataclass(frozen=True)
class Asked:
    """A list request."""

    filters: str = ""
    sort: tuple[str, int] | None = None  # key and direction
    token: str = ""
    limit: int = 100


def list_requests(shape: Shape, texts: Sequence[str]) -> st.SearchStrategy[Asked]:
    """Return list requests, three of four valid; filters compare with `texts` and with hostile values."""
    return st.one_of(*[_valid(shape, texts)] * 3, _any(shape, texts))


def _valid(shape: Shape, texts: Sequence[str]) -> st.SearchStrategy[Asked]:
    """Return requests that are valid, with few exceptions."""
    columns = [(prefix, name, kind) for prefix, known in shape.entities.items() for name, kind in known.items()]
    compared = [column for column in columns if column[2] is not Kind.BYTES]
    expression = st.sampled_from(compared).flatmap(lambda column: _comparison(*column, shape.own, texts))
    return st.builds(
        Asked,
        st.lists(expression, max_size=2).map("+".join),
        st.one_of(st.none(), st.tuples(st.sampled_from(sorted(shape.sort_keys)), st.sampled_from([0, 1]))),
        st.sampled_from(["", "", "", "0", "1", "+2", str(LARGEST_OFFSET)]),
        st.sampled_from([0, 1, 2, 3, 100, 100, LARGEST_LIMIT]),
    )


def _comparison(prefix: str, name: str, kind: Kind, own: str, texts: Sequence[str]) -> st.SearchStrategy[str]:
    """Return expressions that compare a column with values of its type."""
    fields = st.sampled_from([f"{prefix}.{name}", name] if prefix == own else [f"{prefix}.{name}"])
    of_kind = {
        Kind.NUMBER: st.sampled_from(_NUMBERS),
        Kind.ID: st.sampled_from(_NUMBERS),
        Kind.MOMENT: st.sampled_from(_MOMENTS),
    }
    value = of_kind.get(kind, st.one_of(st.sampled_from([*texts, *_PATTERNS]), st.text(min_size=1, max_size=3)))
    single = st.builds("{}({},{})".format, st.sampled_from(_COMPARISONS + _LIKES), fields, value)
    several = st.builds(
        "{}({}, {})".format,
        st.sampled_from(_SETS),
        fields,
        st.lists(value, min_size=1, max_size=3).map(";".join),
    )
    return st.one_of(single, single, several)


def _any(shape: Shape, texts: Sequence[str]) -> st.SearchStrategy[Asked]:
    """Return requests in which any part may be wrong."""
    known = sorted({name for columns in shape.entities.values() for name in columns} | {*shape.sort_keys})
    field = st.sampled_from([*known, "phase", "Name", ""])
    prefixed = st.builds("{}.{}".format, st.sampled_from([*PREFIXES, "unknown"]), field)
    value = st.one_of(st.sampled_from([*texts, *_NUMBERS, *_MOMENTS, *_PATTERNS, *_HOSTILE]), st.text(max_size=5))
    function = st.sampled_from([*_COMPARISONS, *_LIKES, *_SETS, "EQ", "like", ""])
    values = st.lists(value, min_size=1, max_size=2).map(";".join)
    expression = st.one_of(
        st.builds("{}({},{})".format, function, st.one_of(field, prefixed, st.text(max_size=3)), values),
        st.text(max_size=12),
    )
    return st.builds(
        Asked,
        st.lists(expression, max_size=2).map("+".join),
        st.one_of(st.none(), st.tuples(field, st.sampled_from([0, 1, 2]))),
        st.sampled_from(["", "", "1", "-1", "x", "9" * 30]),
        st.sampled_from([0, 1, 100, 100]),
    )
