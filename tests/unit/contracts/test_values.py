"""Values against declared types."""

import time
from typing import Any

import pytest
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import LiteralType
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.casting import MAX_STEPS, Comparison, TypesTooLarge
from services.contracts.literals import literal_type as inferred_type
from services.contracts.literals import type_text
from services.contracts.values import UntypedValue, type_mismatch
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
    map_of,
    mapped,
    one,
    optional,
    values,
    variant,
)


def mismatch_text(declared: Json | LiteralType, value: Json | Literal, steps: int = MAX_STEPS) -> str | None:
    kind = literal_type(declared) if isinstance(declared, dict) else declared
    mismatch = type_mismatch(literal(value) if isinstance(value, dict) else value, kind, Comparison(steps))
    return mismatch and mismatch.text


@pytest.mark.parametrize(("declared", "value"), FITTING)
def test_value_of_the_type_fits(declared: LiteralType, value: Literal) -> None:
    assert mismatch_text(declared, value) is None


@pytest.mark.parametrize(("declared", "value"), [*OTHERS, *FOREIGN_COLORS])
def test_value_of_another_type_does_not_fit(declared: LiteralType, value: Literal) -> None:
    assert mismatch_text(declared, value) is not None


@given(TYPES.flatmap(lambda declared: st.tuples(st.just(declared), values(declared))))
def test_every_value_fits_its_type(drawn: tuple[Json, Json]) -> None:
    assert mismatch_text(*drawn) is None


@given(TYPES.flatmap(lambda declared: st.tuples(st.just(declared), broken(declared))))
def test_value_with_one_part_of_another_type_does_not_fit(drawn: tuple[Json, Json]) -> None:
    assert mismatch_text(*drawn) is not None


def test_mismatch_names_the_type_of_the_value() -> None:
    text = type_text(literal_type(STRING))
    assert mismatch_text(INTEGER, one("x")) == text
    assert mismatch_text(list_of(INTEGER), many(one("x"))) == type_text(literal_type(list_of(STRING)))
    assert mismatch_text(COLOR, one("GREEN")) == f"{text} with the value [GREEN], which the enum does not have"


@pytest.mark.parametrize(
    "value", [{}, {"scalar": {}}, {"scalar": {"blob": {"uri": "s3://x"}}}, {"offloadedMetadata": {}}]
)
def test_value_without_a_type_is_untyped(value: Json) -> None:
    for declared, whole in ((INTEGER, value), (list_of(INTEGER), many(value)), (optional(INTEGER), value)):
        with pytest.raises(UntypedValue):
            mismatch_text(declared, whole)


def test_offloaded_value_fits_by_its_inferred_type() -> None:
    elsewhere = {"offloadedMetadata": {"inferredType": list_of(INTEGER)}}
    assert mismatch_text(optional(list_of(INTEGER)), elsewhere) is None
    assert mismatch_text(list_of(STRING), elsewhere) is not None


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (list_of(INTEGER), many(*map(one, range(2000)))),
        (list_of(optional(INTEGER)), many(*(variant(one(n), INTEGER) for n in range(2000)))),
        (list_of(list_of(STRING)), many(*(many(one(str(n)), one("x")) for n in range(1000)))),
        (list_of({"enumType": {"values": [str(n) for n in range(1000)]}}), many(*(one(str(n)) for n in range(1000)))),
    ],
)
def test_many_values_of_few_types_take_few_steps(declared: Json, value: Json) -> None:
    assert mismatch_text(declared, value, steps=100) is None


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (any_of(*[list_of(INTEGER)] * 100), many(*map(one, range(2000)))),
        (
            any_of(*(list_of(any_of(INTEGER, {"enumType": {"values": [str(n)]}})) for n in range(100))),
            variant(many(*map(one, range(2000)), one("x")), list_of(INTEGER)),
        ),
    ],
)
def test_traversing_one_value_for_many_variants_costs_steps(declared: Json, value: Json) -> None:
    kind, large = literal_type(declared), literal(value)
    started = time.process_time()
    with pytest.raises(TypesTooLarge):
        mismatch_text(kind, large, steps=50_000)
    assert time.process_time() - started < 1


def _deep(levels: int) -> tuple[Json, Json]:
    """Return a value that is of none of eight variants, which is found out only at the lowest level."""
    declared: Any = INTEGER
    value = one("x")
    for _ in range(levels):
        declared, value = any_of(*[list_of(declared)] * 8), many(value)
    return declared, value


def test_value_of_too_many_possible_types_exceeds_the_steps() -> None:
    with pytest.raises(TypesTooLarge):
        mismatch_text(*_deep(3), steps=100)
    assert mismatch_text(map_like := {"mapValueType": optional(INTEGER)}, mapped(a=one("x")), steps=1000), map_like


def test_value_is_serialized_at_few_levels_of_unions() -> None:
    declared: Json = map_of(INTEGER)
    value = mapped(**{str(number): one(number) for number in range(20_000)})
    for _ in range(20):
        declared, value = optional(declared), variant(value, declared)
    with pytest.raises(TypesTooLarge):
        mismatch_text(declared, value, steps=20_000)
    assert mismatch_text(declared, value) is None


def test_copying_a_type_at_each_level_of_lists_costs_steps() -> None:
    kind = literal_type({"simple": "STRUCT"})
    for number in range(10_000):
        kind.metadata.fields[str(number)].string_value = "a"
    value = Literal(offloaded_metadata={"inferred_type": kind})
    for _ in range(20):
        value = Literal(collection={"literals": [value]})
    steps = 0

    def spend(spent: int) -> None:
        nonlocal steps
        steps += spent

    inferred_type(value, spend)
    assert steps > 20 * kind.ByteSize() // 64
