"""The port to an engine: what it is asked, what it is handed, and what its answers do to an execution.

An engine runs workflows and reports on them by events. It is asked at least once for everything, by any replica, so
asking it again for what it has done changes nothing. What an execution's phase asks for is all that counts, not which
message brought it up: an execution that was terminated before its engine took it up is never run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier

from services.executions.engine.inputs import EngineInputs
from services.executions.rules.events.state import ExecutionState
from services.kit.errors import InvalidArgument, ServiceError

LOST_CODE = "ExecutionLost"
LOST_MESSAGE = "the engine no longer has this execution, and nothing was heard of it for too long"


@dataclass(frozen=True)
class RunRequest:
    """An execution as an engine is handed it; `spec` is without inputs, which lie at `inputs_uri`."""

    id: WorkflowExecutionIdentifier
    workflow_id: Identifier
    spec: ExecutionSpec
    config: WorkflowExecutionConfig
    inputs_uri: str
    acting: EngineInputs
    accepted_at: datetime


class Engine(Protocol):
    """What the executions service asks of an engine.

    Unavailable, DeadlineExceeded and ResourceExhausted mean "not now": it is asked again. Whatever else `run` raises
    refuses the execution for good.
    """

    async def run(self, work: RunRequest) -> None:
        """Have the execution run; one that the engine has already is success."""

    async def stop(self, execution: WorkflowExecutionIdentifier) -> bool:
        """Have the execution end; False when the engine does not have it, so nobody will report its end."""

    async def missing(self, executions: Sequence[WorkflowExecutionIdentifier]) -> list[WorkflowExecutionIdentifier]:
        """Answer those that the engine does not have."""


class EngineAction(Enum):
    """What an execution's phase asks of its engine."""

    RUN = "run"
    STOP = "stop"


def engine_action(phase: str) -> EngineAction | None:
    """Return what an execution of this phase, by name, asks of its engine; None for one that the engine reports on."""
    if phase == "UNDEFINED":
        return EngineAction.RUN
    return EngineAction.STOP if phase in {"ABORTING", "ABORTED"} else None


def refused(state: ExecutionState, error: Exception, now: datetime) -> ExecutionState:
    """Return the execution after its engine refused it for good: FAILED, never started (executions.md 2.11)."""
    known = isinstance(error, ServiceError)
    user = isinstance(error, InvalidArgument)
    closure = ExecutionClosure()
    closure.CopyFrom(state.closure)
    closure.phase = WorkflowExecution.FAILED
    closure.updated_at.FromDatetime(now)
    closure.error.CopyFrom(
        ExecutionError(
            # Classes of errors have the names that Go gives their codes.
            code=type(error).__name__ if known else "Unknown",
            message=error.message if isinstance(error, ServiceError) else str(error),
            kind=ExecutionError.USER if user else ExecutionError.SYSTEM,
        )
    )
    return ExecutionState(state.key, state.cluster, closure)


def lost() -> ExecutionError:
    """Return the error of an execution that its engine does not have any more."""
    return ExecutionError(code=LOST_CODE, message=LOST_MESSAGE, kind=ExecutionError.SYSTEM)
