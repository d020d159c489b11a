"""Termination of executions (executions.md#terminateexecution)."""

from flyteidl.admin.event_pb2 import EventErrorAlreadyInTerminalState, EventFailureReason
from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.identifiers import identifier_text
from services.contracts.phases import WORKFLOW_TERMINAL
from services.kit.errors import FailedPrecondition, PermissionDenied

# Enough for what users write, and for the beginning of an engine's report; lists and the console show a cause whole.
MAX_CAUSE_BYTES = 4096


def check_running(phase: str) -> None:
    """Raise FailedPrecondition when an execution of this phase, by name, has ended.

    The engine takes the typed detail for success when it aborts the children of a workflow.
    """
    if WorkflowExecution.Phase.Value(phase) in WORKFLOW_TERMINAL:
        raise FailedPrecondition(
            "Cannot abort an already terminated workflow execution",
            EventFailureReason(already_in_terminal_state=EventErrorAlreadyInTerminalState(current_phase=phase)),
        )


def stored_cause(cause: str) -> str:
    """Return `cause` cut to MAX_CAUSE_BYTES. An engine's long report is not refused, as its abort must succeed."""
    return cause.encode()[:MAX_CAUSE_BYTES].decode(errors="ignore")


def check_child(identifier: WorkflowExecutionIdentifier, parent_node_id: int) -> None:
    """Raise PermissionDenied unless a node has launched the execution: an engine stops what it has launched alone."""
    if not parent_node_id:
        raise PermissionDenied(
            "permission denied: the role engine stops executions that a node has launched, "
            f"and {identifier_text(identifier)} is none"
        )


def set_aborting(closure: ExecutionClosure, cause: str, principal: str) -> None:
    """Change `closure` to that of an execution that is being aborted; it loses its outputs or error."""
    closure.phase = WorkflowExecution.ABORTING
    closure.abort_metadata.cause = cause
    closure.abort_metadata.principal = principal
