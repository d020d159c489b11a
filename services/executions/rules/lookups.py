"""What a caller may look up, and is told of rows that are not there or executions that cannot change any more."""

from flyteidl.admin.event_pb2 import EventErrorAlreadyInTerminalState, EventFailureReason
from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import (
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)

from services.contracts.identifiers import check_task_execution_identifier, identifier_text
from services.contracts.phases import WORKFLOW_TERMINAL
from services.kit.errors import AlreadyExists, FailedPrecondition, NotFound

_ENTITIES = {
    WorkflowExecutionIdentifier: "execution",
    NodeExecutionIdentifier: "node execution",
    TaskExecutionIdentifier: "task execution",
}
# A person's sentences, or the beginning of an engine's report; lists and the console show it whole.
MAX_CAUSE_BYTES = 4096


def check_task(identifier: TaskExecutionIdentifier | None) -> None:
    """Raise InvalidArgument unless the id is complete. REST cannot say that it names a task, so that is assumed."""
    if (
        identifier is not None
        and identifier.HasField("task_id")
        and identifier.task_id.resource_type == ResourceType.UNSPECIFIED
    ):
        identifier.task_id.resource_type = ResourceType.TASK
    check_task_execution_identifier(identifier)


def missing(identifier: WorkflowExecutionIdentifier | NodeExecutionIdentifier | TaskExecutionIdentifier) -> NotFound:
    """Return the answer for a row that is not there (executions.md 1.1)."""
    entity = _ENTITIES[type(identifier)]
    return NotFound(f"missing entity of type {entity} with identifier {identifier_text(identifier)}")


def taken(identifier: WorkflowExecutionIdentifier) -> AlreadyExists:
    """Return the answer for a name that is in use; clients take it for a launch that went well before."""
    return AlreadyExists(
        f"value with matching already exists (execution {identifier_text(identifier)} was launched before)"
    )


def check_running(phase: str) -> None:
    """Raise FailedPrecondition when an execution of this phase has ended (4.3).

    The engine takes the typed detail for success when it aborts the children of a workflow.
    """
    if WorkflowExecution.Phase.Value(phase) in WORKFLOW_TERMINAL:
        raise FailedPrecondition(
            "Cannot abort an already terminated workflow execution",
            EventFailureReason(already_in_terminal_state=EventErrorAlreadyInTerminalState(current_phase=phase)),
        )


def kept_cause(cause: str) -> str:
    """Return what is kept of a cause: an engine's whole report is cut, not refused, as it must get its abort."""
    return cause.encode()[:MAX_CAUSE_BYTES].decode(errors="ignore")


def aborting(closure: ExecutionClosure, cause: str, principal: str) -> None:
    """Change `closure` to that of an execution that is being aborted; its outputs or error give way (4.3)."""
    closure.phase = WorkflowExecution.ABORTING
    closure.abort_metadata.cause = cause
    closure.abort_metadata.principal = principal
