"""Deep and large launch plans: checked in bounded time."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from flyteidl.admin.launch_plan_pb2 import LaunchPlanCreateRequest, LaunchPlanSpec
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import Parameter, TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl.core.types_pb2 import EnumType, LiteralType, SimpleType, UnionType
from google.protobuf.message import DecodeError

from services.kit.errors import InvalidArgument
from services.registry.rules.launch_plans import checked_launch_plan

NOW = datetime(2022, 1, 27, tzinfo=UTC)
PLAN = Identifier(resource_type=ResourceType.LAUNCH_PLAN, project="p", domain="d", name="n", version="v")
INTEGER = LiteralType(simple=SimpleType.INTEGER)
# Deeper than parsers allow, and deeper than people nest.
BEYOND, LEAST = 110, 20
# Stack frames above the rules when a handler calls them.
HANDLER_FRAMES = 100

Value = tuple[Literal, LiteralType]
Wrap = Callable[[Literal, LiteralType], Value]


def in_list(literal: Literal, of: LiteralType) -> Value:
    outer = Literal()
    outer.collection.literals.append(literal)
    return outer, LiteralType(collection_type=of)


def in_map(literal: Literal, of: LiteralType) -> Value:
    outer = Literal()
    outer.map.literals["k"].CopyFrom(literal)
    return outer, LiteralType(map_value_type=of)


def in_union(literal: Literal, of: LiteralType) -> Value:
    outer = Literal()
    outer.scalar.union.value.CopyFrom(literal)
    outer.scalar.union.type.CopyFrom(of)
    return outer, LiteralType(union_type=UnionType(variants=[of]))


def in_mixed_lists(literal: Literal, of: LiteralType) -> Value:
    outer, _ = in_list(literal, of)
    outer.collection.literals.add().scalar.none_type.SetInParent()
    none = LiteralType(simple=SimpleType.NONE)
    return outer, LiteralType(collection_type=LiteralType(union_type=UnionType(variants=[of, none])))


def fixed(wrap: Wrap, depth: int) -> tuple[LaunchPlanSpec, TypedInterface] | None:
    """Return a fixed input of this depth as the registry receives it; None when it cannot be parsed."""
    try:
        literal, of = Literal(scalar=Scalar(primitive=Primitive(integer=1))), INTEGER
        for _ in range(depth):
            literal, of = wrap(literal, of)
        request = LaunchPlanCreateRequest()
        request.spec.fixed_inputs.literals["a"].CopyFrom(literal)
        request = LaunchPlanCreateRequest.FromString(request.SerializeToString())
        return request.spec, TypedInterface(inputs=VariableMap(variables={"a": Variable(type=of)}))
    except DecodeError:
        return None


def outcome(spec: LaunchPlanSpec, interface: TypedInterface, frames: int = HANDLER_FRAMES) -> str:
    if frames:
        return outcome(spec, interface, frames - 1)
    try:
        checked_launch_plan(PLAN, spec, interface, NOW)
    except InvalidArgument as error:
        return error.message
    return "fits"


@pytest.mark.parametrize("wrap", [in_list, in_map, in_union, in_mixed_lists])
def test_deep_values_fit_or_are_nested_too_deeply(wrap: Wrap) -> None:
    outcomes: list[str] = []
    for depth in range(1, BEYOND):
        case = fixed(wrap, depth)
        if case is None:
            break
        outcomes.append(outcome(*case))
    else:
        pytest.fail("more arrives than a parser follows")
    fitting = outcomes.count("fits")
    too_deep = "invalid value for spec: nested too deeply"
    assert outcomes == ["fits"] * fitting + [too_deep] * (len(outcomes) - fitting)
    assert fitting >= LEAST


def test_many_inputs_of_large_types_share_one_allowance() -> None:
    """Each alone could be compared; as many as fit into a request would keep the registry busy for minutes."""
    names = [f"x{number}" for number in range(60)]
    spec = LaunchPlanSpec()
    interface = TypedInterface()
    for name in names:
        enums = [LiteralType(enum_type=EnumType(values=[f"{name} {number}"])) for number in range(250)]
        given = LiteralType(union_type=UnionType(variants=enums))
        wanted = LiteralType(union_type=UnionType(variants=reversed(enums)))
        spec.default_inputs.parameters[name].CopyFrom(Parameter(var=Variable(type=given), required=True))
        interface.inputs.variables[name].type.CopyFrom(wanted)
    with pytest.raises(InvalidArgument, match="too large to compare"):
        checked_launch_plan(PLAN, spec, interface, NOW)
    for name in names[1:]:
        del spec.default_inputs.parameters[name]
    assert checked_launch_plan(PLAN, spec, interface, NOW).closure.expected_inputs.parameters[names[0]].required


def test_thousand_plain_inputs_take_few_steps() -> None:
    names = [f"x{number}" for number in range(1000)]
    interface = TypedInterface(inputs=VariableMap(variables={name: Variable(type=INTEGER) for name in names}))
    spec = LaunchPlanSpec()
    for name in names[:500]:
        spec.fixed_inputs.literals[name].scalar.primitive.integer = 1
    assert set(checked_launch_plan(PLAN, spec, interface, NOW).closure.expected_inputs.parameters) == set(names[500:])
