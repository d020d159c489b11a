"""Inputs of an execution, completed and checked (executions.md 2.4)."""

import pytest
from flyteidl.core.literals_pb2 import LiteralMap

from services.executions.rules.inputs import resolved
from services.kit.errors import InvalidArgument
from tests.support.entities import literals
from tests.support.executions import registered_launch_plan


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        (literals(a=1), literals(a=1, b=7, c="fixed")),
        (literals(a=1, b=2), literals(a=1, b=2, c="fixed")),
    ],
)
def test_defaults_and_fixed_inputs_complete_what_is_given(given: LiteralMap, complete: LiteralMap) -> None:
    assert resolved(given, registered_launch_plan()) == complete


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (literals(z=1), "^invalid input z$"),
        (literals(), "^expected_inputs a missing$"),
        (literals(a=1, c="x"), "^fixed_inputs c cannot be overridden$"),
        (literals(a=1, b="x"), "^invalid b input wrong type. Expected simple: INTEGER, but got simple: STRING$"),
    ],
)
def test_what_does_not_fit_is_refused(given: LiteralMap, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        resolved(given, registered_launch_plan())


def test_a_literal_without_a_type_is_refused() -> None:
    given = literals(a=1)
    given.literals["a"].scalar.blob.uri = "s3://x"
    with pytest.raises(InvalidArgument, match=r"Failed to validate literal type for \[a\]"):
        resolved(given, registered_launch_plan())


def test_a_fixed_input_that_has_a_default_too_stays_fixed() -> None:
    launch_plan = registered_launch_plan()
    launch_plan.closure.expected_inputs.parameters["c"].CopyFrom(launch_plan.closure.expected_inputs.parameters["b"])
    assert resolved(literals(a=1), launch_plan) == literals(a=1, b=7, c="fixed")
    with pytest.raises(InvalidArgument, match="fixed_inputs c cannot be overridden"):
        resolved(literals(a=1, c="x"), launch_plan)
