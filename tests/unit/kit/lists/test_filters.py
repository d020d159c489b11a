"""The parser of filter texts (lists.md#filter-grammar)."""

import contextlib
import re
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import InvalidArgument
from services.kit.lists.filters import MAX_EXPRESSIONS, MAX_LINES, MAX_VALUES, parse_filters

# flyteadmin's pattern, with Go's definition of whitespace.
FLYTEADMIN = re.compile(r"(.+)\((.+),[ \t\f\r]?(.+)\)")

Parts = list[tuple[str, str, list[str]]]


def parts(filters: str) -> Parts:
    return [(expression.function, expression.field, expression.values) for expression in parse_filters(filters)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("eq(name,a)", [("eq", "name", ["a"])]),
        ("eq(name, a)+ne(x,b;c)", [("eq", "name", ["a"]), ("ne", "x", ["b", "c"])]),
        ("eq(name,  a )", [("eq", "name", [" a "])]),
        ("eq(name,\u00a0a)", [("eq", "name", ["\u00a0a"])]),
        ("eq(name, )", [("eq", "name", [" "])]),
        ("eq(name,a(b))", [("eq", "name", ["a(b)"])]),
        ("eq(name,(a,b))", [("eq(name,", "a", ["b)"])]),
        ("eq(a,b,c)", [("eq", "a,b", ["c"])]),
        ("not eq(name,a) and more", [("not eq", "name", ["a"])]),
        ("eq(name,a)\nne(name,b)", [("eq", "name", ["a"])]),
        ("eq(name,;)", [("eq", "name", ["", ""])]),
        ("gte(at,2024-01-01T00:00:00+00:00)", [("gte", "at", ["2024-01-01T00:00:00+00:00"])]),
        ("eq(a,+)+eq(b,c++)", [("eq", "a", ["+"]), ("eq", "b", ["c++"])]),
        ("value_in(d,+e;f+;+)+eq(b,c)", [("value_in", "d", ["+e", "f+", "+"]), ("eq", "b", ["c"])]),
        ("eq(a,f(x)+g(y))+eq(b,c)", [("eq", "a", ["f(x)+g(y)"]), ("eq", "b", ["c"])]),
        ("contains(name,()+eq(b,c)", [("contains", "name", ["("]), ("eq", "b", ["c"])]),
        ("eq(name,a) and more+eq(b,c)", [("eq", "name", ["a"]), ("eq", "b", ["c"])]),
        ("eq(a,1+1)+x(b,2+2)", [("eq", "a", ["1+1"]), ("x", "b", ["2+2"])]),
    ],
)
def test_an_expression_is_parsed_from_its_end(filters: str, expected: Parts) -> None:
    assert parts(filters) == expected


@pytest.mark.parametrize(
    "filters",
    [
        *("", "x", "(a,b)", "eq(,a)", "eq(a,)", "eq()", "eq(a b)", "eq(a,b", "eq a,b)", "eq(a,\nb)", "+eq(a,b)"),
        *("eq(a,b)+", "eq(a,b)++eq(c,d)", "eq(a,b)+eq(c)", "eq(a,b)+c", "eq(a,b) c+d", "eq(a+b,c)", "e+q(a,b)"),
        *("eq(a,b+", "contains(a,()+", "contains(a,() b+c"),
    ],
)
def test_a_malformed_expression_is_refused(filters: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid value for filters$"):
        parts(filters)


# By the grammar a value has no comma, and `;` separates values.
VALUES = st.text(st.characters(exclude_characters=",;()\n"), min_size=1, max_size=12)
MOMENTS = st.datetimes(timezones=st.timezones()).map(datetime.isoformat)


@given(st.lists(st.tuples(st.sampled_from(["eq", "value_in"]), st.lists(VALUES | MOMENTS, min_size=1)), min_size=1))
def test_values_with_plus_signs_stay_whole(expressions: list[tuple[str, list[str]]]) -> None:
    filters = "+".join(f"{function}(a, {';'.join(values)})" for function, values in expressions)
    assert parts(filters) == [(function, "a", values) for function, values in expressions]


@given(st.lists(st.text(alphabet="(),; \t\nab", max_size=12), min_size=1))
def test_joined_expressions_have_the_parts_that_flyteadmin_matches(texts: list[str]) -> None:
    matches = [FLYTEADMIN.search(text) for text in texts]
    if all(matches):
        expected = [(match[1], match[2], match[3].split(";")) for match in matches if match]
        assert parts("+".join(texts)) == expected


@given(st.text(alphabet="(),; \t\nab\u00a0.", max_size=30))
def test_an_expression_has_the_parts_that_flyteadmin_matches(text: str) -> None:
    match = FLYTEADMIN.search(text)
    if match is None:
        with pytest.raises(InvalidArgument):
            parts(text)
    else:
        function, name, value = match.groups()
        assert parts(text) == [(function, name, value.split(";"))]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 50_000 + "," * 50_000,
        "(a,b" * 50_000,
        "a(" * 50_000 + "," * 50_000 + ")\n",
        "eq(a,(" + "+" * 4_000_000 + "))",
        "eq(a,b)+" * 500_000,
        "(" * 2_000_000 + "+(" * 9_000 + ",",
    ],
)
def test_a_hostile_text_is_parsed_within_a_second(text: str) -> None:
    started = time.process_time()
    with contextlib.suppress(InvalidArgument):
        parts(text)
    # Matching every bracket with every comma would take hours.
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("first", "further", "most"),
    [
        ("value_in(name,a+a", ";a", MAX_VALUES),
        ("value_in(name,+++)", "+eq(name,a+)", MAX_EXPRESSIONS),
        ("eq(name,a", "+", MAX_VALUES),
    ],
)
def test_expressions_and_values_are_limited(first: str, further: str, most: int) -> None:
    assert parts(first + further * (most - 1) + ")")
    with pytest.raises(InvalidArgument, match="more than"):
        parts(first + further * most + ")")


def test_lines_are_limited() -> None:
    lines = "\n" * (MAX_LINES - 1)
    assert parts(lines + "eq(name,a)")
    with pytest.raises(InvalidArgument, match="invalid value for filters"):
        parts(lines + "\neq(name,a)")
