"""Errors of building a resource. They end the execution with the code `Unknown` (engine.md#submission)."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class BuildCode(StrEnum):
    """The codes of flyteadmin's builder, which are among its compiler's."""

    VALUE_REQUIRED = "ValueRequired"
    VARIABLE_NAME_NOT_FOUND = "VariableNameNotFound"
    INVALID_LITERAL_TYPE = "InvalidLiteralType"
    MISMATCHING_TYPES = "MismatchingTypes"
    PARAMETER_NOT_BOUND = "ParameterNotBound"
    TASK_REFERENCE_NOT_FOUND = "TaskReferenceNotFound"
    VALUE_COLLISION = "ValueCollision"
    NO_ENTRY_NODE_FOUND = "NoEntryNodeFound"
    SYNTAX_ERROR = "SyntaxError"
    WORKFLOW_BUILD_ERROR = "WorkflowBuildError"


class BuildError(NamedTuple):
    """One error; its node id is that of a node, or names the part of the workflow that is wrong."""

    code: BuildCode
    node_id: str
    description: str


class BuildFailed(Exception):
    """No resource can be built; the message lists every error in the form of the compiler."""

    def __init__(self, errors: Iterable[BuildError]) -> None:
        self.errors = sorted(errors)
        super().__init__(
            f"Collected Errors: {len(self.errors)}\n"
            + "".join(
                f"\tError {i}: Code: {error.code}, Node Id: {error.node_id}, Description: {error.description}\n"
                for i, error in enumerate(self.errors)
            )
        )


def failure(code: BuildCode, node_id: str, description: str) -> BuildFailed:
    """Return the exception for a single error."""
    return BuildFailed([BuildError(code, node_id, description)])
