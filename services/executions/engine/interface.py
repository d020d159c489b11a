"""The interface to an engine, and what its errors change in an execution (engine.md#engine).

An engine runs workflows and reports on them by events. Every call is made at least once, by any replica, so a repeated
call must change nothing. The phase of an execution alone decides on the call, not the message that caused the check: an
execution that was terminated before its engine received it is never run.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Protocol

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution

from services.contracts.engine import RunRequest
from services.executions.rules.events.state import ExecutionState
from services.executions.rules.placements import Placement
from services.kit.errors import InvalidArgument, ServiceError

LOST_CODE = "ExecutionLost"
LOST_MESSAGE = "the engine no longer has this execution, and nothing was heard of it for too long"


class Engine(Protocol):
    """The calls of the executions service to an engine.

    After Unavailable, DeadlineExceeded and ResourceExhausted a call is repeated. With any other error `run` refuses the
    execution permanently.
    """

    async def available(self) -> None:
        """Return when calls may succeed; nothing is submitted before."""

    def choose_cluster(self, request: RunRequest) -> str:
        """Return the id of the cluster for an execution that has none; "" for the single one.

        It is stored before `run`: events of the cluster are accepted from then on.
        """

    async def run(self, request: RunRequest) -> None:
        """Run an execution; does nothing for one that the engine already has."""

    async def stop(self, placement: Placement) -> bool:
        """End an execution; return False when the engine does not have it, so no event will report its end."""

    async def missing(self, placements: Sequence[Placement]) -> list[Placement]:
        """Return those of the executions that the engine does not have."""


class EngineAction(Enum):
    """What the phase of an execution requires of its engine."""

    RUN = "run"
    STOP = "stop"


def engine_action(phase: str) -> EngineAction | None:
    """Return what a phase, by name, requires of the engine; None when it requires nothing."""
    if phase == "UNDEFINED":
        return EngineAction.RUN
    return EngineAction.STOP if phase in {"ABORTING", "ABORTED"} else None


def refused(state: ExecutionState, error: Exception, now: datetime) -> ExecutionState:
    """Return the execution after its engine refused it: FAILED, never started (executions.md#refusal-by-an-engine)."""
    by_user = isinstance(error, InvalidArgument)
    closure = ExecutionClosure()
    closure.CopyFrom(state.closure)
    closure.phase = WorkflowExecution.FAILED
    closure.updated_at.FromDatetime(now)
    closure.error.CopyFrom(
        ExecutionError(
            # Error classes have the names of Go's gRPC codes.
            code=type(error).__name__ if isinstance(error, ServiceError) else "Unknown",
            message=error.message if isinstance(error, ServiceError) else str(error),
            kind=ExecutionError.USER if by_user else ExecutionError.SYSTEM,
        )
    )
    return ExecutionState(state.key, state.cluster, closure)


def lost() -> ExecutionError:
    """Return the error of an execution that its engine no longer has."""
    return ExecutionError(code=LOST_CODE, message=LOST_MESSAGE, kind=ExecutionError.SYSTEM)
