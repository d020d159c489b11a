"""Random events from small alphabets, so that many are repeated, late, of unknown executions, or incomplete.

Every choice is made by a `Random`: hypothesis passes one that it can shrink, other tests a seeded one.
"""

from collections.abc import Sequence
from random import Random

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import (
    Identifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent

from tests.support import event_values as values
from tests.support.event_makers import at

Event = WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent
Request = WorkflowExecutionEventRequest | NodeExecutionEventRequest | TaskExecutionEventRequest

NODES = ("n0", "n0", "n0", "n1", "n2")
CLUSTERS = ("c1", "c2")

# Most phases of a history do not end anything, or it would be over after a few events.
_WORKFLOW_GOES_ON = ("QUEUED", "RUNNING", "SUCCEEDING", "FAILING")
_NODE_GOES_ON = ("QUEUED", "RUNNING", "DYNAMIC_RUNNING", "FAILING", "UNDEFINED")
_TASK_GOES_ON = ("QUEUED", "RUNNING", "RUNNING", "INITIALIZING", "WAITING_FOR_RESOURCES", "RETRYABLE_FAILED")


def any_request(pick: Random, executions: Sequence[str]) -> Request:
    """Return a request for one of `executions`, now and then an invalid one."""
    make = pick.choice((workflow_request, node_request, node_request, task_request, task_request, task_request))
    request = make(pick, pick.choice(executions))
    if isinstance(request, NodeExecutionEventRequest) and request.event.HasField("parent_task_metadata"):
        # No engine names a task of another execution, but other callers may.
        parent = request.event.parent_task_metadata.id.node_execution_id
        if parent.HasField("execution_id") and pick.randrange(2):
            parent.execution_id.name = pick.choice(executions)
    return request


def workflow_request(pick: Random, execution: str) -> WorkflowExecutionEventRequest:
    """Return an event of `execution` itself."""
    event = WorkflowExecutionEvent(
        execution_id=_execution(execution),
        phase=_phase(pick, _WORKFLOW_GOES_ON, WorkflowExecution.Phase.keys()),
        producer_id=_producer(pick),
    )
    _times(pick, event)
    values.result(pick, event)
    _spoil(pick, event)
    return WorkflowExecutionEventRequest(event=event)


def node_request(pick: Random, execution: str, node: str = "") -> NodeExecutionEventRequest:
    """Return an event of a node of `execution`."""
    event = NodeExecutionEvent(
        id={"execution_id": _execution(execution), "node_id": node or pick.choice(NODES)},
        phase=_phase(pick, _NODE_GOES_ON, NodeExecution.Phase.keys()),
        producer_id=_producer(pick),
        deck_uri=pick.choice(("", "deck", "other deck")),
        retry_group=pick.choice(("", "0", "1")),
        spec_node_id=pick.choice(("", "a", "b")),
        event_version=pick.choice((0, 1)),
    )
    for flag in ("is_parent", "is_dynamic", "is_array", "is_eager"):
        setattr(event, flag, _seldom(pick))
    _times(pick, event)
    values.inputs(pick, event)
    values.result(pick, event)
    values.target(pick, event, _execution(execution))
    if _seldom(pick):
        event.parent_node_metadata.node_id = pick.choice((*NODES, "unknown"))
    if _seldom(pick):
        parent = {"execution_id": _execution(execution), "node_id": pick.choice(NODES)}
        task = TaskExecutionIdentifier(task_id=_task(pick), node_execution_id=None if _seldom(pick) else parent)
        event.parent_task_metadata.id.CopyFrom(task)
    _spoil(pick, event)
    return NodeExecutionEventRequest(event=event)


def task_request(pick: Random, execution: str, node: str = "") -> TaskExecutionEventRequest:
    """Return an event of an attempt of a task at a node of `execution`."""
    event = TaskExecutionEvent(
        task_id=_task(pick),
        parent_node_execution_id={"execution_id": _execution(execution), "node_id": node or pick.choice(NODES)},
        retry_attempt=int(_seldom(pick)),
        phase=_phase(pick, _TASK_GOES_ON, TaskExecution.Phase.keys()),
        phase_version=pick.choice((0, 0, 1, 2, 3)),
        producer_id=_producer(pick),
        task_type=pick.choice(("", "python", "container_array")),
        event_version=pick.choice((0, 1, 2)),
    )
    _times(pick, event)
    values.inputs(pick, event)
    values.result(pick, event)
    values.task_details(pick, event)
    _spoil(pick, event)
    return TaskExecutionEventRequest(event=event)


def _execution(name: str) -> WorkflowExecutionIdentifier:
    return WorkflowExecutionIdentifier(project="p", domain="d", name=name)


def _task(pick: Random) -> Identifier:
    name = "other" if _seldom(pick) else "t"
    return Identifier(resource_type=ResourceType.TASK, project="p", domain="d", name=name, version="v")


def _seldom(pick: Random) -> bool:
    return pick.randrange(8) == 0


def _phase(pick: Random, goes_on: Sequence[str], every: Sequence[str]) -> str:
    return pick.choice(every if pick.randrange(4) == 0 else goes_on)


def _producer(pick: Random) -> str:
    return pick.choice(("propeller", *CLUSTERS)) if _seldom(pick) else ""


def _times(pick: Random, event: Event) -> None:
    event.occurred_at.CopyFrom(at(pick.randrange(40) / 2))
    if not isinstance(event, WorkflowExecutionEvent) and _seldom(pick):
        event.reported_at.CopyFrom(at(pick.choice((0, 30, 30.25))))


def _spoil(pick: Random, event: Event) -> None:
    """Make about one event in twenty invalid, so that it is refused for any stored state."""
    spoilers = {
        1: _without_time,
        2: _with_impossible_time,
        3: _with_unknown_phase,
        4: _without_id,
        5: _with_incomplete_id,
        6: values.too_much,
    }
    if spoiler := spoilers.get(pick.randrange(120)):
        spoiler(event)


def _without_time(event: Event) -> None:
    event.ClearField("occurred_at")


def _with_impossible_time(event: Event) -> None:
    event.occurred_at.seconds = 10**13  # beyond the year 9999


def _with_unknown_phase(event: Event) -> None:
    event.phase = 99  # type: ignore[assignment]  # the wire allows any number


def _without_id(event: Event) -> None:
    event.ClearField(event.DESCRIPTOR.fields[0].name)


def _with_incomplete_id(event: Event) -> None:
    if isinstance(event, WorkflowExecutionEvent):
        event.execution_id.ClearField("domain")
    elif isinstance(event, NodeExecutionEvent):
        event.id.ClearField("node_id")
    else:
        event.task_id.resource_type = ResourceType.WORKFLOW
