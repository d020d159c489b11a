"""Events of one run, with flytepropeller's reactions to their responses (events.md#reactions-of-the-engine).

flytepropeller repeats a failed round ten times and then fails the workflow; an event here, too. An unavailable control
plane does not count: the sandbox restarts its parts, and a run waits for them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import grpc
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.event.event_pb2 import NodeExecutionEvent, WorkflowExecutionEvent

from deploy.sandbox.engine.graph.events import workflow_event
from deploy.sandbox.engine.graph.inputs import FailNode, FailRun
from deploy.sandbox.engine.graph.interface import Event
from deploy.sandbox.engine.refusals import Refusal, refusal

log = logging.getLogger(__name__)

_MOST_FAILURES = 10
# First and longest pause before an event is sent again.
_RETRY_SECONDS = (0.1, 2.0)
# The error message of an event is cut to so many bytes (events.md#path-of-an-event-in-the-client).
_MOST_MESSAGE_BYTES = 102_400
_CUT = b"\n... <Message Truncated> ...\n"

_ENDED_WORKFLOW = frozenset((WorkflowExecution.FAILING, WorkflowExecution.FAILED))
_ENDED_NODE = frozenset(
    (
        *(NodeExecution.ABORTED, NodeExecution.FAILED, NodeExecution.SKIPPED),
        *(NodeExecution.SUCCEEDED, NodeExecution.TIMED_OUT),
    )
)
_ENDED_TASK = frozenset((TaskExecution.ABORTED, TaskExecution.FAILED, TaskExecution.SUCCEEDED))
# Its events ignore every error.
_END_NODE = "end-node"


class RunOver(Exception):
    """The control plane has ended the execution, or no longer has it: nothing of it is to be reported any more."""


async def report_end(
    send: Callable[[Event], Awaitable[None]],
    execution: WorkflowExecutionIdentifier,
    phase: WorkflowExecution.Phase,
    error: ExecutionError,
) -> None:
    """Report the end of an execution that has no run."""
    with contextlib.suppress(RunOver):
        event = workflow_event(execution, phase, datetime.now(UTC), error=error)
        await EventSender(send, lambda: True).deliver(event)


class EventSender:
    """Sends the events of one run.

    Args:
        send: sends an event once; raises grpc.aio.AioRpcError.
        aborting: whether the run is being terminated: then most errors are tolerated.
    """

    def __init__(self, send: Callable[[Event], Awaitable[None]], aborting: Callable[[], bool]) -> None:
        self._send = send
        self._aborting = aborting

    async def deliver(self, event: Event, *, again: bool = False) -> FailNode | FailRun | None:
        """Send an event until it is accepted or refused for good; return what the run does about a refusal.

        Args:
            event: An event.
            again: Whether it may have been accepted before a restart, and what followed it, too.

        Raises:
            RunOver: The execution has ended in the control plane.
        """
        _cut_message(event)
        pause, longest = _RETRY_SECONDS
        failures = 0
        while True:
            try:
                await self._send(event)
            except grpc.aio.AioRpcError as error:
                why = refusal(error)
                if why is not Refusal.NOT_NOW:
                    failures += 1
                    if self._tolerated(event, why) or (again and why is Refusal.ENDED):
                        return None
                    reaction = self._reaction(event, why, error.details() or "")
                    if reaction is not None:
                        return reaction
                    log.warning("an event was refused: %s", error.details(), extra={"event_type": type(event).__name__})
                if failures > _MOST_FAILURES:
                    return FailRun(_system("Workflow abort failed", error.details() or ""))
            else:
                return None
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _tolerated(self, event: Event, why: Refusal) -> bool:
        if why is Refusal.RECORDED or (isinstance(event, NodeExecutionEvent) and event.id.node_id == _END_NODE):
            return True
        if why is Refusal.ENDED:
            if isinstance(event, WorkflowExecutionEvent):
                raise RunOver("the execution has ended in the control plane")
            ended = _ENDED_NODE if isinstance(event, NodeExecutionEvent) else _ENDED_TASK
            return event.phase in ended or self._aborting()
        if why in {Refusal.NOT_FOUND, Refusal.OTHER_CLUSTER}:
            return self._aborting() or (isinstance(event, WorkflowExecutionEvent) and event.phase in _ENDED_WORKFLOW)
        return False

    def _reaction(self, event: Event, why: Refusal, message: str) -> FailNode | FailRun | None:
        if why is Refusal.NOT_FOUND:
            return FailRun(_system("ExecutionNotFound", message))
        if why is Refusal.OTHER_CLUSTER:
            return FailRun(_system("cluster reassigned", message))
        if (
            isinstance(event, NodeExecutionEvent)
            and event.phase not in _ENDED_NODE
            and why in {Refusal.TOO_LARGE, Refusal.INVALID}
        ):
            error = ExecutionError(code="NodeFailed", message=message, kind=ExecutionError.USER)
            return FailNode(event.id.node_id, error)
        return None


def _cut_message(event: Event) -> None:
    if not event.HasField("error"):
        return
    data = event.error.message.encode()
    if len(data) > _MOST_MESSAGE_BYTES:
        half = (_MOST_MESSAGE_BYTES - len(_CUT)) // 2
        event.error.message = (data[:half] + _CUT + data[-half:]).decode(errors="ignore")


def _system(code: str, message: str) -> ExecutionError:
    return ExecutionError(code=code, message=message, kind=ExecutionError.SYSTEM)
