"""How a filter text is taken apart (registry.md 4.2)."""

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import InvalidArgument
from services.kit.filter_text import MAX_EXPRESSIONS, MAX_LINES, MAX_VALUES, expressions

# What the reference matches with, where only Go's whitespace is whitespace.
REFERENCE = re.compile(r"(.+)\((.+),[ \t\f\r]?(.+)\)")

Parts = list[tuple[str, str, list[str]]]


def parts(filters: str) -> Parts:
    return [(made.function, made.field, made.values) for made in expressions(filters)]


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
    ],
)
def test_an_expression_is_taken_apart_from_behind(filters: str, expected: Parts) -> None:
    assert parts(filters) == expected


@pytest.mark.parametrize(
    "filters", ["", "x", "(a,b)", "eq(,a)", "eq(a,)", "eq()", "eq(a b)", "eq(a,b", "eq a,b)", "eq(a,\nb)", "+eq(a,b)"]
)
def test_what_is_no_expression_is_refused(filters: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid value for filters$"):
        parts(filters)


@given(st.text(alphabet="(),; \t\nab\u00a0.", max_size=30))
def test_the_parts_are_those_that_the_reference_matches(text: str) -> None:
    match = REFERENCE.search(text)
    if match is None:
        with pytest.raises(InvalidArgument):
            parts(text)
    else:
        function, name, value = match.groups()
        assert parts(text) == [(function, name, value.split(";"))]


@pytest.mark.parametrize("text", ["(" * 50_000 + "," * 50_000, "(a,b" * 50_000, "a(" * 50_000 + "," * 50_000 + ")\n"])
def test_a_hostile_text_is_judged_at_once(text: str) -> None:
    started = time.perf_counter()
    with contextlib.suppress(InvalidArgument):
        parts(text)
    # Trying every bracket with every comma would take hours.
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("first", "further", "most"),
    [("value_in(name,a", ";a", MAX_VALUES), ("value_in(name,a)", "+eq(name,a)", MAX_EXPRESSIONS)],
)
def test_only_so_many_are_taken(first: str, further: str, most: int) -> None:
    assert parts(first + further * (most - 1) + ")")
    with pytest.raises(InvalidArgument, match="more than"):
        parts(first + further * most + ")")


def test_only_so_many_lines_are_looked_at() -> None:
    lines = "\n" * (MAX_LINES - 1)
    assert parts(lines + "eq(name,a)")
    with pytest.raises(InvalidArgument, match="invalid value for filters"):
        parts(lines + "\neq(name,a)")
