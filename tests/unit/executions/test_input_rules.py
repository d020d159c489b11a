"""Inputs of an execution, completed and checked (executions.md#execution-inputs)."""

import pytest
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.interface_pb2 import Parameter, Variable
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.types_pb2 import LiteralType

from services.executions.rules.inputs import resolve
from services.kit.errors import InvalidArgument
from tests.support.entities import literals
from tests.support.executions import registered_launch_plan
from tests.support.values import FITTING, FOREIGN_COLORS, OTHERS


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        (literals(a=1), literals(a=1, b=7, c="fixed")),
        (literals(a=1, b=2), literals(a=1, b=2, c="fixed")),
    ],
)
def test_given_inputs_are_completed_with_defaults_and_fixed_inputs(given: LiteralMap, complete: LiteralMap) -> None:
    assert resolve(given, registered_launch_plan()) == complete


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (literals(z=1), "^invalid input z$"),
        (literals(), "^expected_inputs a missing$"),
        (literals(a=1, c="x"), "^fixed_inputs c cannot be overridden$"),
        (literals(a=1, b="x"), "^invalid b input wrong type. Expected simple:INTEGER, but got simple:STRING$"),
    ],
)
def test_invalid_inputs_are_refused(given: LiteralMap, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        resolve(given, registered_launch_plan())


def expecting(declared: LiteralType) -> LaunchPlan:
    plan = LaunchPlan()
    plan.closure.expected_inputs.parameters["x"].CopyFrom(Parameter(var=Variable(type=declared), required=True))
    return plan


@pytest.mark.parametrize(("declared", "value"), FITTING)
def test_value_of_the_expected_type_is_accepted(declared: LiteralType, value: Literal) -> None:
    given = LiteralMap(literals={"x": value})
    assert resolve(given, expecting(declared)) == given


@pytest.mark.parametrize(("declared", "value"), OTHERS)
def test_a_value_of_another_type_is_refused(declared: LiteralType, value: Literal) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid x input wrong type. Expected .+, but got .+$"):
        resolve(LiteralMap(literals={"x": value}), expecting(declared))


@pytest.mark.parametrize(("declared", "value"), FOREIGN_COLORS)
def test_value_outside_an_enum_is_refused(declared: LiteralType, value: Literal) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid x input wrong type. Expected .* with the value \["):
        resolve(LiteralMap(literals={"x": value}), expecting(declared))


def test_a_literal_without_a_type_is_refused() -> None:
    given = literals(a=1)
    given.literals["a"].scalar.blob.uri = "s3://x"
    with pytest.raises(InvalidArgument, match=r"Failed to validate literal type for \[a\]"):
        resolve(given, registered_launch_plan())


def test_fixed_input_with_a_default_stays_fixed() -> None:
    launch_plan = registered_launch_plan()
    launch_plan.closure.expected_inputs.parameters["c"].CopyFrom(launch_plan.closure.expected_inputs.parameters["b"])
    assert resolve(literals(a=1), launch_plan) == literals(a=1, b=7, c="fixed")
    with pytest.raises(InvalidArgument, match="fixed_inputs c cannot be overridden"):
        resolve(literals(a=1, c="x"), launch_plan)
