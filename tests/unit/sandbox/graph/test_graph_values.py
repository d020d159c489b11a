"""Values: bindings with attribute paths, MessagePack, conditions, durations, ids."""

from datetime import timedelta
from typing import Any

import pytest
from flyteidl.core.condition_pb2 import BooleanExpression, ComparisonExpression, ConjunctionExpression, Operand
from flyteidl.core.literals_pb2 import Binary, Binding, BindingData, Literal, LiteralMap, Primitive, Scalar, Union, Void
from flyteidl.core.types_pb2 import LiteralType, OutputReference, PromiseAttribute, SimpleType
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.engine.graph.bindings import BindingFailed, attribute, resolve
from deploy.sandbox.engine.graph.conditions import BranchFailed, holds
from deploy.sandbox.engine.graph.events import go_duration
from deploy.sandbox.engine.graph.msgpack_values import select
from deploy.sandbox.engine.graph.node_ids import Parent, _shortened, child_name, generated_name, unique_id
from tests.support.literals import python_value, to_literal, to_literals
from tests.support.msgpack import packed


def path(*steps: str | int) -> list[PromiseAttribute]:
    return [
        PromiseAttribute(string_value=step) if isinstance(step, str) else PromiseAttribute(int_value=step)
        for step in steps
    ]


def struct(**fields: Any) -> Literal:
    return Literal(scalar=Scalar(generic=ParseDict(fields, Struct())))


def binary(value: Any) -> Literal:
    return Literal(scalar=Scalar(binary=Binary(value=packed(value), tag="msgpack")))


@pytest.mark.parametrize(
    ("literal", "steps", "value"),
    [
        (to_literal([1, [2, 3]]), (1, 0), 2),
        (to_literal({"a": {"b": [7]}}), ("a", "b", 0), 7),
        (struct(a={"b": [1, "x"]}), ("a", "b", 1), "x"),
        (struct(a=2), ("a",), 2.0),
        (struct(a=[True, False]), ("a",), [True, False]),
        (to_literal([struct(a="y")]), (0, "a"), "y"),
    ],
)
def test_attribute_paths_lead_into_lists_maps_and_structs(literal: Literal, steps: Any, value: Any) -> None:
    assert python_value(attribute(literal, path(*steps))) == value


def test_attribute_of_a_dataclass_is_packed_as_it_was() -> None:
    inner = attribute(binary({"a": {"b": [1, 2.5, None]}}), path("a", "b"))
    assert inner == binary([1, 2.5, None])


def test_attribute_paths_lead_through_unions() -> None:
    wrapped = Literal(scalar=Scalar(union=Union(value=binary({"a": 1}), type=LiteralType(simple=SimpleType.STRUCT))))
    assert attribute(wrapped, path("a")) == binary(1)


@pytest.mark.parametrize(
    ("literal", "steps"),
    [
        (to_literal([1]), (1,)),
        (to_literal([1]), (-1,)),
        (to_literal({"a": 1}), ("b",)),
        (to_literal(1), ("a",)),
        (struct(a=None), ("a",)),
        (struct(a=1), (0,)),
        (binary({"a": 1}), ("b",)),
        (binary([1]), (1,)),
        (binary(1), ("a",)),
    ],
)
def test_attribute_that_does_not_exist_is_an_error(literal: Literal, steps: Any) -> None:
    with pytest.raises(BindingFailed):
        attribute(literal, path(*steps))


def test_bindings_are_constants_promises_lists_and_maps() -> None:
    one = BindingData(scalar=Scalar(primitive=Primitive(integer=1)))
    promised = BindingData(promise=OutputReference(node_id="n0", var="[1].o0"))
    bindings = [
        Binding(var="x", binding=BindingData(collection={"bindings": [one, promised]})),
        Binding(var="y", binding=BindingData(map={"bindings": {"k": one}})),
    ]
    values = resolve(
        bindings, lambda node_id, variable: to_literal([5, 6]) if (node_id, variable) == ("n0", "o0") else None
    )
    assert values == to_literals({"x": [1, 6], "y": {"k": 1}})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=30,
)


@given(VALUES, st.randoms())
def test_any_member_of_a_packed_value_is_found(value: Any, pick: Any) -> None:
    steps: list[str | int] = []
    inner = value
    while isinstance(inner, list | dict) and inner:
        step: Any = pick.randrange(len(inner)) if isinstance(inner, list) else pick.choice(list(inner))
        steps.append(step)
        inner = inner[step]
    assert select(packed(value), steps) == packed(inner)


@given(st.binary(max_size=60), st.lists(st.text(max_size=3) | st.integers(0, 3), max_size=3))
def test_any_bytes_are_a_value_or_an_error(data: bytes, steps: list[str | int]) -> None:
    try:
        found = select(data, steps)
    except (LookupError, ValueError):
        return
    assert found in data


def compared(left: Operand, operator: ComparisonExpression.Operator, right: Operand) -> BooleanExpression:
    return BooleanExpression(comparison=ComparisonExpression(left_value=left, operator=operator, right_value=right))


def number(value: float) -> Operand:
    primitive = Primitive(integer=value) if isinstance(value, int) else Primitive(float_value=value)
    return Operand(primitive=primitive)


X = Operand(var="x")
INPUTS = to_literals({"x": 3, "s": "b", "none": None, "list": [1]})


@pytest.mark.parametrize(
    ("operator", "right", "expected"),
    [("EQ", 3, True), ("NEQ", 3, False), ("GT", 2, True), ("GTE", 3, True), ("LT", 3, False), ("LTE", 3, True)],
)
def test_comparisons_of_numbers(operator: Any, right: int, *, expected: bool) -> None:
    assert holds(compared(X, operator, number(right)), INPUTS) is expected


def test_none_is_equal_to_none_alone() -> None:
    none = Operand(scalar=Scalar(none_type=Void()))
    assert holds(compared(Operand(var="none"), ComparisonExpression.EQ, none), INPUTS)
    assert not holds(compared(X, ComparisonExpression.EQ, none), INPUTS)
    assert holds(compared(X, ComparisonExpression.NEQ, none), INPUTS)


def test_both_sides_of_a_conjunction_count() -> None:
    yes, no = compared(X, ComparisonExpression.GT, number(2)), compared(X, ComparisonExpression.GT, number(3))
    for operator, expected in ((ConjunctionExpression.AND, False), (ConjunctionExpression.OR, True)):
        conjunction = ConjunctionExpression(operator=operator, left_expression=no, right_expression=yes)
        assert holds(BooleanExpression(conjunction=conjunction), INPUTS) is expected


@pytest.mark.parametrize(
    "expression",
    [
        compared(X, ComparisonExpression.EQ, number(1.5)),
        compared(Operand(var="missing"), ComparisonExpression.EQ, number(1)),
        compared(Operand(var="list"), ComparisonExpression.EQ, number(1)),
        compared(Operand(var="none"), ComparisonExpression.GT, number(1)),
        compared(
            Operand(primitive=Primitive(boolean=True)),
            ComparisonExpression.LT,
            Operand(primitive=Primitive(boolean=False)),
        ),
        BooleanExpression(),
    ],
)
def test_conditions_that_cannot_be_evaluated_are_errors_of_the_user(expression: BooleanExpression) -> None:
    with pytest.raises(BranchFailed) as raised:
        holds(expression, INPUTS)
    assert raised.value.error.code == "MalformedBranchUserError"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (5, "5s"),
        (1.5, "1.5s"),
        (0.25, "250ms"),
        (60, "1m0s"),
        (1200, "20m0s"),
        (3600, "1h0m0s"),
        (3661.5, "1h1m1.5s"),
    ],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert go_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("parent", "spec_id", "expected"),
    [
        (None, "a-very-long-node-id-of-a-template", "a-very-long-node-id-of-a-template"),
        (Parent("n0", 0), "n1", "n0-0-n1"),
        (Parent("n0", 0), "start-node", "n0-0-start-node"),
        (Parent("n0-0-n0", 1), "start-node", "n0-0-n0-1-start-node"),
        (Parent("n0-0-n0-1-n0", 1), "start-node", "fetatm6a"),
    ],
)
def test_unique_ids(parent: Parent | None, spec_id: str, expected: str) -> None:
    assert unique_id(parent, spec_id) == expected


@pytest.mark.parametrize(
    ("text", "most", "bits", "expected"),
    [
        ("x", 5, 32, "x"),
        ("xx", 1, 32, "flfryc2i"),
        ("xxxxxxxxxxx", 10, 32, "fggddjly"),
        ("xxxxxxxxxxx", 10, 64, "fyd4ete2hnqes5"),
    ],
)
def test_hashes_are_those_of_flytepropeller(text: str, most: int, bits: int, expected: str) -> None:
    assert _shortened(text, most, bits) == expected


def test_long_names_are_hashed_to_their_lengths() -> None:
    assert (child_name("e", "n0", 0), generated_name("e", "n0", 0)) == ("e-n0-0", "e-n0-0")
    long = child_name("a" * 19, "n0", 0)
    assert (len(long), long[0]) == (14, "f")
    assert len(generated_name("a" * 60, "n0", 0)) == 8
    assert LiteralMap() == to_literals({})
