"""Errors of a task or a workflow: collected as a set, reported together.

See compiler.md#compiler-errors and compiler.md#error-codes.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from flyteidl.core.types_pb2 import LiteralType, SimpleType
from google.protobuf.message import Message

from services.contracts.casting import Comparison
from services.contracts.message_text import message_text

# People correct a few and try again; a longer message would be cut on its way to the client.
MAX_ERRORS = 500

# The same error may be found a million times in a list of bindings, and each is described before it is compared.
MAX_FOUND = 10_000

# Ids and names in texts may be long. Clients receive some kilobytes of all texts.
MAX_FOUND_CHARACTERS = 1_000_000

# Texts of larger messages take seconds to write and are too long to read.
MAX_TEXT_BYTES = 4096

ROOT = "root"


class Code(StrEnum):
    """The codes of flyteadmin's compiler; clients show them, and their tests search for them."""

    CYCLE_DETECTED = "CycleDetected"
    BRANCH_NODE_ID_NOT_FOUND = "BranchNodeIdNotFound"
    BRANCH_NODE_HAS_NO_CONDITION = "BranchNodeHasNoCondition"
    BRANCH_NODE_HAS_NO_DEFAULT = "BranchNodeHasNoDefault"
    VALUE_REQUIRED = "ValueRequired"
    INVALID_VALUE = "InvalidValue"
    UNRECOGNIZED_VALUE = "UnrecognizedValue"
    NODE_REFERENCE_NOT_FOUND = "NodeReferenceNotFound"
    TASK_REFERENCE_NOT_FOUND = "TaskReferenceNotFound"
    WORKFLOW_REFERENCE_NOT_FOUND = "WorkflowReferenceNotFound"
    VARIABLE_NAME_NOT_FOUND = "VariableNameNotFound"
    PARAMETER_NOT_BOUND = "ParameterNotBound"
    PARAMETER_BOUND_MORE_THAN_ONCE = "ParameterBoundMoreThanOnce"
    DUPLICATE_ALIAS = "DuplicateAlias"
    DUPLICATE_ID = "DuplicateId"
    MISMATCHING_TYPES = "MismatchingTypes"
    MISMATCHING_BINDINGS = "MismatchingBindings"
    ILLEGAL_ENUM_VALUE = "IllegalEnumValue"
    AMBIGUOUS_BINDING_UNION_VALUE = "AmbiguousBindingUnionValue"
    INCOMPATIBLE_BINDING_UNION_VALUE = "IncompatibleBindingUnionValue"
    SYNTAX_ERROR = "SyntaxError"
    FIELD_NOT_FOUND = "FieldNotFound"
    NO_NODES_FOUND = "NoNodesFound"
    UNREACHABLE_NODES = "UnreachableNodes"
    NO_CONDITION_FOUND = "NoConditionFound"


class CompileError(NamedTuple):
    """One error. Its node id is that of a node, or names the part of the task or workflow that is wrong."""

    code: Code
    node_id: str
    description: str


class CompilationFailed(Exception):
    """The task or workflow is invalid; the message lists every error in flyteadmin's form."""

    def __init__(self, errors: frozenset[CompileError]) -> None:
        self.errors = errors
        lines = sorted((error.code, f"Node Id: {error.node_id}, Description: {error.description}") for error in errors)
        super().__init__(
            f"Collected Errors: {len(lines)}\n"
            + "".join(f"\tError {i}: Code: {code}, {text}\n" for i, (code, text) in enumerate(lines))
        )


class DoesNotFit(Exception):
    """The first error of a collection that fails fast."""


class Errors:
    """A collection of errors.

    A child also adds its errors to its parent, so a step can check whether it had any itself. A collection that fails
    fast raises DoesNotFit for the first error.

    Texts of types are charged to `comparison`: a large one takes long to measure, and may be in many errors.
    """

    def __init__(
        self, parent: "Errors | None" = None, *, fail_fast: bool = False, comparison: Comparison | None = None
    ) -> None:
        self._comparison = comparison
        self._errors: set[CompileError] = set()
        self._found = 0
        self._found_characters = 0
        self._parent = parent
        self._fail_fast = fail_fast

    def __bool__(self) -> bool:
        return bool(self._errors)

    def child(self) -> "Errors":
        """Return a new child, for the errors of one step."""
        return Errors(self, comparison=self._comparison)

    def add(self, code: Code, node_id: str, description: str) -> None:
        """Collect an error; raise CompilationFailed when there are MAX_ERRORS, or MAX_FOUND with equal ones."""
        self.add_lazily(code, node_id, lambda: description)

    def add_lazily(self, code: Code, node_id: str, describe: Callable[[], str]) -> None:
        """Collect an error whose description is expensive and not needed by a collection that fails fast."""
        if self._fail_fast:
            raise DoesNotFit
        self._collect(CompileError(code, node_id, describe()))

    def value_required(self, node_id: str, what: str) -> None:
        """Collect that a value is missing."""
        self.add(Code.VALUE_REQUIRED, node_id, f"Value required [{what}].")

    def invalid_value(self, node_id: str, what: str) -> None:
        """Collect that a value is invalid."""
        self.add(Code.INVALID_VALUE, node_id, f"Invalid value [{what}].")

    def not_bound(self, node_id: str, variable: str) -> None:
        """Collect that an input, or an output of the workflow, gets no value."""
        self.add(Code.PARAMETER_NOT_BOUND, node_id, f"Parameter not bound [{variable}].")

    def no_variable(self, node_id: str, owner: str, variable: str) -> None:
        """Collect that node `owner` has no such variable."""
        self.add(Code.VARIABLE_NAME_NOT_FOUND, node_id, f"Variable [{variable}] not found on node [{owner}].")

    def no_node(self, node_id: str, missing: str) -> None:
        """Collect that node `node_id` refers to node `missing`, which does not exist."""
        self.add(Code.NODE_REFERENCE_NOT_FOUND, node_id, f"Referenced node [{missing}] not found.")

    def no_workflow(self, node_id: str, missing: str) -> None:
        """Collect that the workflow or launch plan `missing` does not exist."""
        self.add(Code.WORKFLOW_REFERENCE_NOT_FOUND, node_id, f"Referenced Workflow [{missing}] not found.")

    def mismatch(self, node_id: str, variable: str, given: LiteralType, expected: LiteralType) -> None:
        """Collect that a variable, or a value, is of another type than expected."""
        self.add_lazily(
            Code.MISMATCHING_TYPES,
            node_id,
            lambda: (
                f"Variable [{variable}] (type [{self.type_text(given)}]) doesn't match expected type "
                f"[{self.type_text(expected)}]."
            ),
        )

    def type_text(self, literal_type: LiteralType) -> str:
        """Return `short_type_text`; raise TypesTooLarge when that takes too many steps."""
        if self._comparison is not None:
            self._comparison.spend_size(literal_type)
        return short_type_text(literal_type)

    def text(self, message: Message) -> str:
        """Return `short_text`; raise TypesTooLarge when that takes too many steps."""
        if self._comparison is not None:
            self._comparison.spend_size(message)
        return short_text(message)

    def raise_any(self) -> None:
        """Raise CompilationFailed if there are errors."""
        if self._errors:
            raise CompilationFailed(frozenset(self._errors))

    def _collect(self, error: CompileError) -> None:
        self._errors.add(error)
        self._found += 1
        self._found_characters += len(error.node_id) + len(error.description)
        if self._parent is not None:
            self._parent._collect(error)  # noqa: SLF001 - of the same class
        elif (
            len(self._errors) >= MAX_ERRORS
            or self._found >= MAX_FOUND
            or self._found_characters >= MAX_FOUND_CHARACTERS
        ):
            self.raise_any()


def short_type_text(literal_type: LiteralType) -> str:
    """Write a type on one line; of a dataclass its fields, not the longer schema in its metadata."""
    bare = LiteralType()
    bare.CopyFrom(literal_type)
    bare.ClearField("metadata")
    if bare.simple != SimpleType.STRUCT or bare.ByteSize() > MAX_TEXT_BYTES:
        return short_text(bare)
    fields = sorted(bare.structure.dataclass_type.items())
    return f"simple: STRUCT structure{{{', '.join(_field_text(name, field_type) for name, field_type in fields)}}}"


def _field_text(name: str, field_type: LiteralType) -> str:
    return f"dataclass_type:{{key:{name} value:{{{short_type_text(field_type)}}}}}"


def short_text(message: Message) -> str:
    """Write `message` on one line, or only its size when it is large."""
    size = message.ByteSize()
    return message_text(message) if size <= MAX_TEXT_BYTES else f"{size} bytes"
