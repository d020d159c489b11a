"""Every pair of stored phase and phase of an event, for the three kinds (events.md 2.1, 3.3, 4.1)."""

from collections.abc import Iterator

import pytest
from flyteidl.admin.event_pb2 import EventFailureReason
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution

from services.executions.rules.events import node as nodes
from services.executions.rules.events import task as tasks
from services.executions.rules.events.state import NodeState, Offloads, TaskState
from services.executions.rules.events.workflow import fold_workflow
from services.kit.errors import AlreadyExists, FailedPrecondition, ServiceError
from tests.support.event_makers import (
    NODE_KEY,
    STORAGE,
    TASK_KEY,
    execution_state,
    node_event,
    task_event,
    workflow_event,
)

# As in events.md 2.1: AE already exists, T typed terminal, F plain failed precondition, and - for accepted without
# effect, where the reference lets an execution go back.
COLUMNS = [
    "UNDEFINED",
    "QUEUED",
    "RUNNING",
    "SUCCEEDING",
    "FAILING",
    "ABORTING",
    "SUCCEEDED",
    "FAILED",
    "TIMED_OUT",
    "ABORTED",
]
WORKFLOW = """
COLUMNS     UNDEFINED QUEUED RUNNING SUCCEEDING FAILING ABORTING SUCCEEDED FAILED TIMED_OUT ABORTED
UNDEFINED   AE ok ok ok ok ok ok ok ok ok
QUEUED      -  ok ok ok ok ok ok ok ok ok
RUNNING     -  F  AE ok ok ok ok ok ok ok
SUCCEEDING  -  -  -  AE ok ok ok ok ok ok
FAILING     -  -  -  ok AE ok ok ok ok ok
ABORTING    F  F  F  F  F  AE ok ok ok ok
SUCCEEDED   T  T  T  T  T  T  AE T  T  T
FAILED      T  T  T  T  T  T  T  AE T  T
TIMED_OUT   T  T  T  T  T  T  T  T  AE T
ABORTED     T  T  T  T  T  T  T  T  T  AE
"""


def workflow_cells() -> Iterator[tuple[str, str, str]]:
    (_, *columns), *rows = [line.split() for line in WORKFLOW.strip().splitlines()]
    for stored, *cells in rows:
        for event, cell in zip(columns, cells, strict=True):
            yield stored, event, cell


def outcome(error: ServiceError | None) -> str:
    if error is None:
        return "ok"
    if isinstance(error, AlreadyExists):
        return "AE"
    assert isinstance(error, FailedPrecondition)
    return "T" if error.details else "F"


def terminal_phase(error: ServiceError | None) -> str:
    assert error is not None
    (detail,) = error.details
    assert isinstance(detail, EventFailureReason)
    return detail.already_in_terminal_state.current_phase


def test_the_table_names_every_phase() -> None:
    assert {stored for stored, _, _ in workflow_cells()} == set(WorkflowExecution.Phase.keys())


@pytest.mark.parametrize(("stored", "event", "cell"), list(workflow_cells()))
def test_workflow_phases(stored: str, event: str, cell: str) -> None:
    state = execution_state(stored)
    error: ServiceError | None = None
    after = state
    try:
        after = fold_workflow(state, workflow_event(event), STORAGE, Offloads())
    except ServiceError as raised:
        error = raised
    assert outcome(error) == ("ok" if cell == "-" else cell)
    if cell == "T":
        assert terminal_phase(error) == stored
    applied = WorkflowExecution.Phase.Value(event if cell == "ok" else stored)
    assert after.closure.phase == applied
    assert (after is state) == (cell != "ok")


NODE_OVER = {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "SKIPPED", "RECOVERED"}


@pytest.mark.parametrize("stored", NodeExecution.Phase.keys())
@pytest.mark.parametrize("event", NodeExecution.Phase.keys())
def test_node_phases(stored: str, event: str) -> None:
    expected = "AE" if stored == event else "T" if stored in NODE_OVER else "ok"
    state = NodeState(NODE_KEY, NodeExecutionClosure(phase=stored), NodeExecutionMetaData())
    error: ServiceError | None = None
    try:
        nodes.check_move(state, node_event(event))
    except ServiceError as raised:
        error = raised
    assert outcome(error) == expected
    if expected == "T":
        assert terminal_phase(error) == event


TASK_OVER = {"SUCCEEDED", "FAILED", "ABORTED"}


@pytest.mark.parametrize("stored", TaskExecution.Phase.keys())
@pytest.mark.parametrize("event", TaskExecution.Phase.keys())
@pytest.mark.parametrize("version", [1, 2, 3])
def test_task_phases_and_versions(stored: str, event: str, version: int) -> None:
    """The stored version is 2."""
    expected = "AE" if stored == event and version <= 2 else "T" if stored in TASK_OVER else "ok"
    state = TaskState(TASK_KEY, TaskExecutionClosure(phase=stored), phase_version=2)
    error: ServiceError | None = None
    try:
        tasks.check_move(state, task_event(event, version=version))
    except ServiceError as raised:
        error = raised
    assert outcome(error) == expected
    if expected == "T":
        assert terminal_phase(error) == event
