"""Responses to events lead to what flytepropeller does (events.md#reactions-of-the-engine)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from flyteidl.admin.event_pb2 import EventErrorAlreadyInTerminalState, EventErrorIncompatibleCluster, EventFailureReason
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent
from google.rpc.status_pb2 import Status

from deploy.sandbox.engine import event_sender
from deploy.sandbox.engine.event_sender import EventSender, RunOver
from deploy.sandbox.engine.graph.inputs import FailNode, FailRun
from deploy.sandbox.engine.graph.interface import Event


def failure(code: grpc.StatusCode, text: str = "no", reason: EventFailureReason | None = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata()
    if reason is not None:
        status = Status(code=code.value[0], message=text)
        status.details.add().Pack(reason)
        trailing.add("grpc-status-details-bin", status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, text, "")


ENDED = failure(
    grpc.StatusCode.FAILED_PRECONDITION,
    reason=EventFailureReason(already_in_terminal_state=EventErrorAlreadyInTerminalState()),
)
REASSIGNED = failure(
    grpc.StatusCode.FAILED_PRECONDITION,
    reason=EventFailureReason(incompatible_cluster=EventErrorIncompatibleCluster()),
)
MISSING = failure(grpc.StatusCode.NOT_FOUND, "no execution")
TOO_LARGE = failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)")
BUSY = failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many events are waiting")
DOWN = failure(grpc.StatusCode.UNAVAILABLE)
BROKEN = failure(grpc.StatusCode.INTERNAL, "broken")
INVALID = failure(grpc.StatusCode.INVALID_ARGUMENT, "wrong")


def node(phase: NodeExecution.Phase, name: str = "n0") -> NodeExecutionEvent:
    return NodeExecutionEvent(id=NodeExecutionIdentifier(node_id=name), phase=phase)


def task(phase: TaskExecution.Phase) -> TaskExecutionEvent:
    return TaskExecutionEvent(phase=phase)


def workflow(phase: WorkflowExecution.Phase) -> WorkflowExecutionEvent:
    return WorkflowExecutionEvent(phase=phase)


@dataclass
class Plane:
    """Responds with failures, one after the other, then with success."""

    failures: Iterator[Exception]
    sent: list[Event] = field(default_factory=list)

    async def send(self, event: Event) -> None:
        self.sent.append(event)
        if (error := next(self.failures, None)) is not None:
            raise error


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_sender, "_RETRY_SECONDS", (0.0, 0.0))


async def deliver(event: Event, *failures: Exception, aborting: bool = False) -> tuple[int, object]:
    plane = Plane(iter(failures))
    reaction = await EventSender(plane.send, lambda: aborting).deliver(event)
    return len(plane.sent), reaction


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (node(NodeExecution.RUNNING), failure(grpc.StatusCode.ALREADY_EXISTS)),
        (node(NodeExecution.SUCCEEDED), ENDED),
        (task(TaskExecution.FAILED), ENDED),
        (node(NodeExecution.RUNNING, "end-node"), BROKEN),
        (workflow(WorkflowExecution.FAILED), MISSING),
        (workflow(WorkflowExecution.FAILING), REASSIGNED),
    ],
)
async def test_refusal_that_changes_nothing_counts_as_success(event: Event, error: Exception) -> None:
    assert await deliver(event, error) == (1, None)


async def test_unavailable_control_plane_is_waited_for_without_limit() -> None:
    assert await deliver(node(NodeExecution.RUNNING), *[DOWN, BUSY] * 30) == (61, None)


async def test_event_that_is_refused_again_and_again_fails_the_run() -> None:
    count, reaction = await deliver(task(TaskExecution.RUNNING), *[BROKEN] * 20)
    assert count == 11
    assert reaction == FailRun(
        ExecutionError(code="Workflow abort failed", message="broken", kind=ExecutionError.SYSTEM)
    )


async def test_few_refusals_are_retried() -> None:
    assert await deliver(task(TaskExecution.RUNNING), *[BROKEN] * 10) == (11, None)


@pytest.mark.parametrize("error", [TOO_LARGE, INVALID])
async def test_event_of_a_running_node_that_can_never_be_accepted_fails_the_node(error: grpc.aio.AioRpcError) -> None:
    count, reaction = await deliver(node(NodeExecution.DYNAMIC_RUNNING), error)
    expected = ExecutionError(code="NodeFailed", message=error.details(), kind=ExecutionError.USER)
    assert (count, reaction) == (1, FailNode("n0", expected))


@pytest.mark.parametrize(("error", "code"), [(MISSING, "ExecutionNotFound"), (REASSIGNED, "cluster reassigned")])
async def test_execution_that_is_gone_fails_the_run_unless_it_is_aborted(error: Exception, code: str) -> None:
    _, reaction = await deliver(node(NodeExecution.RUNNING), error)
    assert isinstance(reaction, FailRun)
    assert reaction.error.code == code
    assert await deliver(node(NodeExecution.ABORTED), error, aborting=True) == (1, None)


async def test_workflow_event_after_the_end_ends_the_run() -> None:
    with pytest.raises(RunOver):
        await deliver(workflow(WorkflowExecution.RUNNING), ENDED)


async def test_long_error_message_keeps_its_beginning_and_its_end() -> None:
    event = task(TaskExecution.FAILED)
    event.error.message = "a" * 200_000 + "ü" * 200_000
    await deliver(event)
    data = event.error.message.encode()
    assert len(data) <= 102_400
    assert data.startswith(b"aaa")
    assert event.error.message.endswith("üüü")


async def test_event_that_may_have_been_accepted_before_a_restart_is_not_a_failure() -> None:
    plane = Plane(iter([ENDED, ENDED]))
    event = node(NodeExecution.RUNNING)
    assert await EventSender(plane.send, lambda: False).deliver(event, again=True) is None
    assert plane.sent == [event]
