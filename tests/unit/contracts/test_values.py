"""Values against declared types."""

import time
from typing import Any

import pytest
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import LiteralType
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.casting import MAX_STEPS, Comparison, TypesTooLarge
from services.contracts.literals import type_text
from services.contracts.values import Untyped, type_mismatch
from tests.support.values import (
    COLOR,
    FITTING,
    FOREIGN_COLORS,
    INTEGER,
    OTHERS,
    STRING,
    TYPES,
    Json,
    any_of,
    broken,
    list_of,
    literal,
    literal_type,
    many,
    mapped,
    one,
    optional,
    told,
    values,
)


def found(declared: Json | LiteralType, value: Json | Literal, steps: int = MAX_STEPS) -> str | None:
    kind = literal_type(declared) if isinstance(declared, dict) else declared
    instead = type_mismatch(literal(value) if isinstance(value, dict) else value, kind, Comparison(steps))
    return instead and instead.text


@pytest.mark.parametrize(("declared", "value"), FITTING)
def test_a_value_of_the_type_fits(declared: LiteralType, value: Literal) -> None:
    assert found(declared, value) is None


@pytest.mark.parametrize(("declared", "value"), [*OTHERS, *FOREIGN_COLORS])
def test_a_value_of_another_type_does_not(declared: LiteralType, value: Literal) -> None:
    assert found(declared, value) is not None


@given(TYPES.flatmap(lambda declared: st.tuples(st.just(declared), values(declared))))
def test_every_value_fits_its_type(drawn: tuple[Json, Json]) -> None:
    assert found(*drawn) is None


@given(TYPES.flatmap(lambda declared: st.tuples(st.just(declared), broken(declared))))
def test_no_value_fits_in_which_one_thing_is_foreign(drawn: tuple[Json, Json]) -> None:
    assert found(*drawn) is not None


def test_what_a_value_is_instead_is_told() -> None:
    text = type_text(literal_type(STRING))
    assert found(INTEGER, one("x")) == text
    assert found(list_of(INTEGER), many(one("x"))) == type_text(literal_type(list_of(STRING)))
    assert found(COLOR, one("GREEN")) == f"{text} with the value [GREEN], which the enum does not have"


@pytest.mark.parametrize(
    "value", [{}, {"scalar": {}}, {"scalar": {"blob": {"uri": "s3://x"}}}, {"offloadedMetadata": {}}]
)
def test_a_value_that_tells_no_type_is_told_from_one_of_another(value: Json) -> None:
    for declared, whole in ((INTEGER, value), (list_of(INTEGER), many(value)), (optional(INTEGER), value)):
        with pytest.raises(Untyped):
            found(declared, whole)


def test_a_value_kept_elsewhere_counts_by_what_is_said_of_it() -> None:
    elsewhere = {"offloadedMetadata": {"inferredType": list_of(INTEGER)}}
    assert found(optional(list_of(INTEGER)), elsewhere) is None
    assert found(list_of(STRING), elsewhere) is not None


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (list_of(INTEGER), many(*map(one, range(2000)))),
        (list_of(optional(INTEGER)), many(*(told(one(n), INTEGER) for n in range(2000)))),
        (list_of(list_of(STRING)), many(*(many(one(str(n)), one("x")) for n in range(1000)))),
        (list_of({"enumType": {"values": [str(n) for n in range(1000)]}}), many(*(one(str(n)) for n in range(1000)))),
    ],
)
def test_many_values_of_few_types_take_few_steps(declared: Json, value: Json) -> None:
    assert found(declared, value, steps=100) is None


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (any_of(*[list_of(INTEGER)] * 100), many(*map(one, range(2000)))),
        (
            any_of(*(list_of(any_of(INTEGER, {"enumType": {"values": [str(n)]}})) for n in range(100))),
            told(many(*map(one, range(2000)), one("x")), list_of(INTEGER)),
        ),
    ],
)
def test_looking_through_one_value_for_many_variants_is_paid_for(declared: Json, value: Json) -> None:
    kind, large = literal_type(declared), literal(value)
    started = time.process_time()
    with pytest.raises(TypesTooLarge):
        found(kind, large, steps=50_000)
    assert time.process_time() - started < 1


def _deep(levels: int) -> tuple[Json, Json]:
    """A value that might be of any of eight variants at every level, and is of none."""
    declared: Any = INTEGER
    value = one("x")
    for _ in range(levels):
        declared, value = any_of(*[list_of(declared)] * 8), many(value)
    return declared, value


def test_a_value_that_could_be_too_many_things_is_given_up() -> None:
    with pytest.raises(TypesTooLarge):
        found(*_deep(3), steps=100)
    assert found(map_like := {"mapValueType": optional(INTEGER)}, mapped(a=one("x")), steps=1000), map_like
