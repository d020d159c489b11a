"""Specs that lists could not contain are refused, and the comparison of input types is limited in steps."""

import math
from collections.abc import Callable

import pytest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest
from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive, Scalar
from flyteidl.core.types_pb2 import EnumType, LiteralType, UnionType
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp

from services.contracts.casting import TypesTooLarge
from services.executions.rules import create, inputs
from services.kit.errors import InvalidArgument
from tests.support.entities import INTEGER, integer
from tests.support.executions import launch, registered_launch_plan


def in_spec(request: ExecutionCreateRequest, value: Literal) -> None:
    request.spec.inputs.literals["a"].CopyFrom(value)


def outside_spec(request: ExecutionCreateRequest, value: Literal) -> None:
    request.inputs.literals["a"].CopyFrom(value)


def number(value: float) -> Literal:
    return Literal(scalar=Scalar(primitive=Primitive(float_value=value)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.spec.tags.extend(["t"] * 1001), "tags cannot exceed 1000 entries"),
        (lambda r: r.spec.tags.append("ä" * 128), "exceeds 255 bytes"),
        (lambda r: r.spec.tags.append("a\0b"), "invalid value for tags"),
    ],
)
def test_tags_that_cannot_be_stored_or_filtered_are_refused(
    change: Callable[[ExecutionCreateRequest], object], message: str
) -> None:
    request = launch()
    change(request)
    with pytest.raises(InvalidArgument, match=message):
        create.check_spec(request)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: outside_spec(r, number(math.nan)),
        lambda r: in_spec(r, number(math.nan)),
        lambda r: in_spec(r, number(-math.inf)),
        lambda r: r.spec.tags.extend(["ä" * 127, "", "ナイトリー"]),
        lambda r: r.spec.metadata.scheduled_at.CopyFrom(Timestamp(seconds=1)),
    ],
)
def test_spec_that_json_can_represent_passes(change: Callable[[ExecutionCreateRequest], object]) -> None:
    request = launch()
    change(request)
    create.check_spec(request)
    assert MessageToJson(request.spec)


def enums(names: int, prefix: str = "") -> list[LiteralType]:
    return [LiteralType(enum_type=EnumType(values=[f"{prefix}{number}"])) for number in range(names)]


def test_all_inputs_of_a_launch_share_one_limit_of_steps() -> None:
    """Each alone is within the limit; as many as fit into a request would take minutes."""
    plan = registered_launch_plan()
    request = launch()
    for name in map("x{} ".format, range(60)):
        union = request.inputs.literals[name].scalar.union
        union.value.scalar.primitive.string_value = f"{name}0"
        union.type.union_type.variants.extend(enums(250, name))
        parameter = plan.closure.expected_inputs.parameters[name]
        parameter.var.type.union_type.variants.extend(reversed(enums(250, name)))
    with pytest.raises(TypesTooLarge):
        inputs.resolve(request.inputs, plan)


def test_types_that_are_sorted_again_at_every_depth_reach_the_limit() -> None:
    value = Literal()
    value.scalar.union.type.union_type.variants.extend(enums(2000))
    value.scalar.union.value.CopyFrom(integer(1))
    for _ in range(30):
        value, inner = Literal(), value
        value.collection.literals.extend([inner, integer(1)])
    request = launch()
    outside_spec(request, value)
    with pytest.raises(TypesTooLarge):
        inputs.resolve(request.inputs, registered_launch_plan(), 100_000)


def test_text_of_a_type_in_an_error_message_counts_as_steps() -> None:
    plan = registered_launch_plan()
    plan.closure.expected_inputs.parameters["a"].var.type.CopyFrom(
        LiteralType(collection_type=LiteralType(union_type=UnionType(variants=enums(5000))))
    )
    with pytest.raises(TypesTooLarge):
        inputs.resolve(launch().inputs, plan, 2000)
    with pytest.raises(InvalidArgument, match="invalid a input wrong type"):
        inputs.resolve(launch().inputs, plan)


def test_same_large_types_count_once() -> None:
    value = Literal()
    for _ in range(200):
        row = value.collection.literals.add().collection
        row.literals.add().scalar.union.type.union_type.variants.extend(enums(20))
        row.literals.add().scalar.none_type.SetInParent()
    plan = registered_launch_plan()
    with pytest.raises(InvalidArgument, match="invalid a input wrong type"):
        inputs.resolve(LiteralMap(literals={"a": value}), plan, 6000)


def test_long_list_of_one_type_takes_few_steps() -> None:
    plan = registered_launch_plan()
    plan.closure.expected_inputs.parameters["a"].var.type.collection_type.CopyFrom(INTEGER)
    request = launch()
    request.inputs.literals["a"].collection.literals.extend([integer(1)] * 20_000)
    assert inputs.resolve(request.inputs, plan, 100).literals["a"] == request.inputs.literals["a"]
