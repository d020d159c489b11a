"""What an execution runs with: inputs given, the launch plan's defaults and its fixed inputs (executions.md 2.4).

Names are looked at in their order, so that of several mistakes always the same one is reported. All inputs share one
allowance for the comparing of their types, which clients may nest as they like.
"""

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.interface_pb2 import Parameter
from flyteidl.core.literals_pb2 import Literal, LiteralMap

from services.contracts.casting import Comparison
from services.contracts.literals import type_text
from services.contracts.values import Untyped, type_mismatch
from services.kit.errors import InvalidArgument

# Steps of comparing the types of all inputs of one execution: a second or so, which inputs that people write stay far
# below.
MAX_STEPS = 1_000_000


def check_literals(inputs: LiteralMap) -> None:
    """Raise InvalidArgument unless each input has a name and a value (2.2, rule 12)."""
    for name, literal in sorted(inputs.literals.items()):
        if not name:
            raise InvalidArgument("missing key in inputs")
        if literal.WhichOneof("value") is None:
            raise InvalidArgument(f"missing valid literal in inputs {name}")


def resolved(given: LiteralMap, launch_plan: LaunchPlan, steps: int = MAX_STEPS) -> LiteralMap:
    """Complete `given` with defaults and fixed inputs; raises InvalidArgument for what does not fit.

    A fixed input goes before a default of the same name. Raises TypesTooLarge when comparing takes more than `steps`.
    """
    comparison = Comparison(steps)
    expected = launch_plan.closure.expected_inputs.parameters
    fixed = launch_plan.spec.fixed_inputs.literals
    result = LiteralMap()
    for name in sorted(given.literals):
        if name in fixed:  # before it is called unknown, as expected inputs leave it out
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
    wanted = parameter.var.type
    try:
        instead = type_mismatch(literal, wanted, comparison)
    except Untyped as error:
        raise InvalidArgument(
            f"Failed to validate literal type for [{name}] with err: its type cannot be told"
        ) from error
    if instead is not None:
        raise InvalidArgument(f"invalid {name} input wrong type. Expected {type_text(wanted)}, but got {instead.text}")
