"""Inputs of a workflow: every variable is bound, by a value of its type (engine.md#flyteworkflow-object)."""

from collections.abc import Iterator

from flyteidl.core.interface_pb2 import Variable
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.workflow_pb2 import WorkflowTemplate

from services.contracts.casting import Comparison
from services.contracts.literals import type_text
from services.contracts.values import UntypedValue, type_mismatch
from services.executions.rules.flyteworkflow.errors import BuildCode, BuildError, BuildFailed
from services.executions.rules.inputs import MAX_STEPS

_START_NODE = "start-node"


def check_inputs(template: WorkflowTemplate, inputs: LiteralMap) -> None:
    """Raise BuildFailed unless `inputs` bind exactly the input variables of a workflow.

    Raises:
        TypesTooLarge: Comparing their types takes more steps than at the launch.
    """
    declared = template.interface.inputs.variables
    errors = list(_errors(dict(declared), inputs))
    if errors:
        raise BuildFailed(errors)


def _errors(declared: dict[str, Variable], inputs: LiteralMap) -> Iterator[BuildError]:
    comparison = Comparison(MAX_STEPS)
    for name in sorted({*declared, *inputs.literals}):
        if name not in inputs.literals:
            yield BuildError(BuildCode.PARAMETER_NOT_BOUND, _START_NODE, f"Parameter not bound [{name}].")
        elif name not in declared:
            yield BuildError(
                BuildCode.VARIABLE_NAME_NOT_FOUND, _START_NODE, f"Variable [{name}] not found on node [{_START_NODE}]."
            )
        elif error := _type_error(name, inputs.literals[name], declared[name], comparison):
            yield error


def _type_error(name: str, literal: Literal, variable: Variable, comparison: Comparison) -> BuildError | None:
    try:
        mismatch = type_mismatch(literal, variable.type, comparison)
    except UntypedValue:
        return BuildError(BuildCode.INVALID_LITERAL_TYPE, _START_NODE, f"Failed to validate literal type for [{name}].")
    if mismatch is None:
        return None
    return BuildError(
        BuildCode.MISMATCHING_TYPES,
        _START_NODE,
        f"Variable [{name}] (type [{mismatch.text}]) doesn't match expected type [{type_text(variable.type)}].",
    )
