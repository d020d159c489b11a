"""What can be wrong with a task or a workflow: collected as a set, told all at once (compiler.md 1 and 11)."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from flyteidl.core.types_pb2 import LiteralType, SimpleType
from google.protobuf.message import Message

from services.contracts.message_text import message_text

# A person corrects a few and tries again; the text of more would be cut on its way to the client.
MAX_ERRORS = 500

# Texts of larger messages cost seconds to write and help nobody.
MAX_TEXT_BYTES = 4096

ROOT = "root"


class Code(StrEnum):
    """The codes of the reference compiler; clients show them and tests look for them."""

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
    """One finding. Its node id is that of a node, or says which part of the whole is meant."""

    code: Code
    node_id: str
    description: str


class CompilationFailed(Exception):
    """The task or workflow is wrong; the text lists every finding in the form that clients know."""

    def __init__(self, errors: frozenset[CompileError]) -> None:
        self.errors = errors
        lines = sorted((error.code, f"Node Id: {error.node_id}, Description: {error.description}") for error in errors)
        super().__init__(
            f"Collected Errors: {len(lines)}\n"
            + "".join(f"\tError {i}: Code: {code}, {text}\n" for i, (code, text) in enumerate(lines))
        )


class DoesNotFit(Exception):
    """A trial found something wrong."""


class Errors:
    """Collects findings; a scope collects for its parent too, so that a step can ask how it went itself."""

    def __init__(self, parent: "Errors | None" = None, *, trial: bool = False) -> None:
        self._found: set[CompileError] = set()
        self._parent = parent
        self._trial = trial

    def __bool__(self) -> bool:
        return bool(self._found)

    def scope(self) -> "Errors":
        """Open a scope of its own for one step."""
        return Errors(self)

    def trial(self) -> "Errors":
        """Open a collection that tells nobody and is ended by the first finding, which raises DoesNotFit."""
        return Errors(trial=True)

    def add(self, code: Code, node_id: str, description: str) -> None:
        """Collect a finding; raises CompilationFailed when there are more than anybody will read."""
        self.tell(code, node_id, lambda: description)

    def tell(self, code: Code, node_id: str, describe: Callable[[], str]) -> None:
        """As `add`; for a description that takes long to write and that a trial does not need."""
        if self._trial:
            raise DoesNotFit
        self._collect(CompileError(code, node_id, describe()))

    def value_required(self, node_id: str, what: str) -> None:
        """Collect that something is missing."""
        self.add(Code.VALUE_REQUIRED, node_id, f"Value required [{what}].")

    def invalid_value(self, node_id: str, what: str) -> None:
        """Collect that something cannot be what it is."""
        self.add(Code.INVALID_VALUE, node_id, f"Invalid value [{what}].")

    def not_bound(self, node_id: str, variable: str) -> None:
        """Collect that an input, or an output of the workflow, gets no value."""
        self.add(Code.PARAMETER_NOT_BOUND, node_id, f"Parameter not bound [{variable}].")

    def no_variable(self, node_id: str, owner: str, variable: str) -> None:
        """Collect that node `owner` has no such variable."""
        self.add(Code.VARIABLE_NAME_NOT_FOUND, node_id, f"Variable [{variable}] not found on node [{owner}].")

    def no_node(self, node_id: str, missing: str) -> None:
        """Collect that node `node_id` refers to one that is not there."""
        self.add(Code.NODE_REFERENCE_NOT_FOUND, node_id, f"Referenced node [{missing}] not found.")

    def no_workflow(self, node_id: str, missing: str) -> None:
        """Collect that a workflow or launch plan is not there."""
        self.add(Code.WORKFLOW_REFERENCE_NOT_FOUND, node_id, f"Referenced Workflow [{missing}] not found.")

    def mismatch(self, node_id: str, variable: str, given: LiteralType, wanted: LiteralType) -> None:
        """Collect that a variable, or a value, is of another type than is wanted."""
        self.tell(
            Code.MISMATCHING_TYPES,
            node_id,
            lambda: (
                f"Variable [{variable}] (type [{type_text(given)}]) doesn't match expected type [{type_text(wanted)}]."
            ),
        )

    def raise_any(self) -> None:
        """Raise CompilationFailed if anything was found."""
        if self._found:
            raise CompilationFailed(frozenset(self._found))

    def _collect(self, error: CompileError) -> None:
        self._found.add(error)
        if self._parent is not None:
            self._parent._collect(error)  # noqa: SLF001 - of the same class
        elif len(self._found) >= MAX_ERRORS:
            self.raise_any()


def type_text(literal_type: LiteralType) -> str:
    """Write a type on one line; of a dataclass its fields, not the schema that says the same at length (8.3)."""
    bare = LiteralType()
    bare.CopyFrom(literal_type)
    bare.ClearField("metadata")
    if bare.simple != SimpleType.STRUCT or bare.ByteSize() > MAX_TEXT_BYTES:
        return text(bare)
    fields = sorted(bare.structure.dataclass_type.items())
    return f"simple: STRUCT structure{{{', '.join(_field_text(name, of) for name, of in fields)}}}"


def _field_text(name: str, of: LiteralType) -> str:
    return f"dataclass_type:{{key:{name} value:{{{type_text(of)}}}}}"


def text(message: Message) -> str:
    """Write `message` on one line, or only its size when it is large."""
    size = message.ByteSize()
    return message_text(message) if size <= MAX_TEXT_BYTES else f"{size} bytes"
