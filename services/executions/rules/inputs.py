"""Inputs of an execution: those given, the launch plan's defaults, its fixed inputs (executions.md#execution-inputs).

Names are checked in sorted order, so the same one of several mistakes is always reported. Clients may nest types to any
depth, so all inputs together have one limit of comparison steps.
"""

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.interface_pb2 import Parameter
from flyteidl.core.literals_pb2 import Literal, LiteralMap

from services.contracts.casting import Comparison
from services.contracts.literals import type_text
from services.contracts.values import UntypedValue, type_mismatch
from services.kit.errors import InvalidArgument

# Steps for comparing the types of all inputs of one execution: a second or two; usual inputs need far fewer.
MAX_STEPS = 500_000


def check_literals(inputs: LiteralMap) -> None:
    """Raise InvalidArgument unless each input has a name and a value."""
    for name, literal in sorted(inputs.literals.items()):
        if not name:
            raise InvalidArgument("missing key in inputs")
        if literal.WhichOneof("value") is None:
            raise InvalidArgument(f"missing valid literal in inputs {name}")


def resolve(given: LiteralMap, launch_plan: LaunchPlan, steps: int = MAX_STEPS) -> LiteralMap:
    """Return `given` completed with defaults and fixed inputs; a fixed input takes precedence over a default.

    Raises:
        InvalidArgument: An input is unknown, missing, fixed, or of the wrong type.
        TypesTooLarge: Comparing the types takes more than `steps`.
    """
    comparison = Comparison(steps)
    expected = launch_plan.closure.expected_inputs.parameters
    fixed = launch_plan.spec.fixed_inputs.literals
    result = LiteralMap()
    for name in sorted(given.literals):
        if name in fixed:  # checked first, as expected inputs do not contain it
            raise InvalidArgument(f"fixed_inputs {name} cannot be overridden")
        if name not in expected:
            raise InvalidArgument(f"invalid input {name}")
        result.literals[name].CopyFrom(given.literals[name])
    for name, parameter in sorted(expected.items()):
        if name in result.literals:
            _check_type(name, result.literals[name], parameter, comparison)
        elif parameter.required:
            raise InvalidArgument(f"expected_inputs {name} missing")
        else:
            result.literals[name].CopyFrom(parameter.default)
    for name, literal in fixed.items():
        result.literals[name].CopyFrom(literal)
    return result


def _check_type(name: str, literal: Literal, parameter: Parameter, comparison: Comparison) -> None:
    expected = parameter.var.type
    try:
        instead = type_mismatch(literal, expected, comparison)
    except UntypedValue as error:
        raise InvalidArgument(
            f"Failed to validate literal type for [{name}] with err: its type cannot be told"
        ) from error
    if instead is not None:
        raise InvalidArgument(
            f"invalid {name} input wrong type. Expected {type_text(expected)}, but got {instead.text}"
        )
