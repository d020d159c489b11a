"""A whole batch: each event stands alone, and later ones see what earlier ones made."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from flyteidl.admin.event_pb2 import EventFailureReason
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.event.event_pb2 import (
    NodeExecutionEvent,
    ParentNodeExecutionMetadata,
    ParentTaskExecutionMetadata,
    TaskExecutionEvent,
    WorkflowExecutionEvent,
    WorkflowNodeMetadata,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.event_batches import BatchedEvent, Kind
from services.contracts.phases import NODE_TERMINAL, TASK_TERMINAL, WORKFLOW_TERMINAL
from services.executions.rules.events.batch import Changes, Event, Rows, fold_batch, read_event, wanted
from services.executions.rules.events.state import ExecutionKey
from services.kit.errors import AlreadyExists, Code, InvalidArgument, NotFound, ServiceError
from tests.support.event_makers import (
    EXECUTION,
    EXECUTION_KEY,
    NODE_KEY,
    STORAGE,
    TASK,
    TASK_KEY,
    batched,
    execution_state,
    node_event,
    task_event,
    workflow_event,
)


class Memory:
    """The rows that the store would keep, with its promises: ids are set aside, only what is wanted is there."""

    def __init__(self, cluster: str = "") -> None:
        self.rows = Rows(executions={EXECUTION_KEY: execution_state(cluster=cluster)})
        self._last_id = 0

    def take(self, events: Sequence[Event | ServiceError]) -> Changes:
        need = wanted(events)
        kept = self.rows
        rows = Rows(
            {key: state for key, state in kept.executions.items() if key in need.executions},
            {key: state.cluster for key, state in kept.executions.items() if key in need.mentioned},
            {key: state for key, state in kept.nodes.items() if need.nodes.get(key)},
            {key: number for key, number in kept.node_ids.items() if key in need.nodes},
            {key: state for key, state in kept.tasks.items() if need.tasks.get(key)},
            {key: number for key, number in kept.task_ids.items() if key in need.tasks},
            [self._next() for key, state in need.nodes.items() if state and key not in kept.node_ids],
            [self._next() for key, state in need.tasks.items() if state and key not in kept.task_ids],
        )
        changes = fold_batch(events, rows, STORAGE)
        assert not changes.new_nodes.keys() & kept.node_ids.values()
        assert changes.nodes.keys() <= set(kept.node_ids.values())
        assert changes.tasks.keys() <= set(kept.task_ids.values())
        kept.executions |= changes.executions
        for number, node in (changes.new_nodes | changes.nodes).items():
            kept.nodes[node.key], kept.node_ids[node.key] = node, number
        for number, task in (changes.new_tasks | changes.tasks).items():
            kept.tasks[task.key], kept.task_ids[task.key] = task, number
        return changes

    def _next(self) -> int:
        self._last_id += 1
        return self._last_id


def codes(changes: Changes) -> list[str]:
    return ["OK" if verdict is None else verdict.code.name for verdict in changes.verdicts]


def test_a_whole_execution_in_one_batch() -> None:
    events: list[Event] = [
        workflow_event("RUNNING", 1),
        node_event("QUEUED", 2),
        task_event("QUEUED", 3),
        node_event("RUNNING", 4),
        task_event("RUNNING", 5),
        task_event("SUCCEEDED", 6),
        node_event("SUCCEEDED", 7),
        workflow_event("SUCCEEDED", 8),
    ]
    memory = Memory()
    changes = memory.take(events)
    assert codes(changes) == ["OK"] * len(events)
    assert memory.rows.executions[EXECUTION_KEY].closure.phase == WorkflowExecution.SUCCEEDED
    assert [node.closure.phase for node in changes.new_nodes.values()] == [NodeExecution.SUCCEEDED]
    assert [task.closure.phase for task in changes.new_tasks.values()] == [TaskExecution.SUCCEEDED]
    assert not changes.nodes
    assert not changes.tasks


def test_one_bad_event_does_not_harm_the_others() -> None:
    unreadable = read_event(BatchedEvent(Kind.NODE, b"\xff"))
    assert isinstance(unreadable, InvalidArgument)
    changes = Memory().take([node_event("QUEUED"), unreadable, node_event("QUEUED", None, "n1"), node_event("RUNNING")])
    assert codes(changes) == ["OK", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "OK"]
    assert [node.key.node_id for node in changes.new_nodes.values()] == ["n0"]


def test_a_failure_no_rule_foresaw_is_internal_and_keeps_its_cause() -> None:
    broken = node_event("QUEUED", node="n1")
    broken.phase = 99  # type: ignore[assignment]  # the wire allows any number
    memory = Memory()
    memory.take([node_event("QUEUED", node="n1")])
    changes = memory.take([broken, node_event("QUEUED")])
    assert codes(changes) == ["INTERNAL", "OK"]
    assert isinstance(changes.verdicts[0], ServiceError)
    assert isinstance(changes.verdicts[0].__cause__, KeyError)


@pytest.mark.parametrize(
    "event",
    [
        workflow_event("RUNNING", name="unknown"),
        node_event("RUNNING", name="unknown"),
        task_event("RUNNING", name="unknown"),
        task_event("RUNNING", node="unknown"),
        node_event("RUNNING", parent_node_metadata=ParentNodeExecutionMetadata(node_id="unknown")),
        node_event(
            "RUNNING",
            parent_task_metadata=ParentTaskExecutionMetadata(
                id={"task_id": TASK, "node_execution_id": {"node_id": "unknown", "execution_id": EXECUTION}}
            ),
        ),
    ],
)
def test_what_is_truly_missing_is_not_found(event: Event) -> None:
    changes = Memory().take([event])
    assert codes(changes) == ["NOT_FOUND"]
    assert changes == Changes(changes.verdicts)


def test_an_incomplete_parent_task_is_an_invalid_argument() -> None:
    parent = ParentTaskExecutionMetadata(id={"task_id": TASK})
    assert codes(Memory().take([node_event("RUNNING", parent_task_metadata=parent)])) == ["INVALID_ARGUMENT"]


def test_parents_made_in_the_same_batch_are_found() -> None:
    parent = ParentNodeExecutionMetadata(node_id="n0")
    task = ParentTaskExecutionMetadata(
        id={"task_id": TASK, "node_execution_id": {"node_id": "n0", "execution_id": EXECUTION}}
    )
    memory = Memory()
    changes = memory.take(
        [
            node_event("RUNNING"),
            task_event("RUNNING"),
            node_event("QUEUED", node="n1", parent_node_metadata=parent),
            node_event("QUEUED", node="n2", parent_task_metadata=task),
        ]
    )
    assert codes(changes) == ["OK"] * 4
    made = {node.key.node_id: node for node in changes.new_nodes.values()}
    assert made["n1"].parent_id == memory.rows.node_ids[NODE_KEY]
    assert made["n2"].parent_task_id == memory.rows.task_ids[TASK_KEY]
    assert (made["n0"].parent_id, made["n0"].parent_task_id) == (None, None)


def test_a_child_execution_must_exist_when_a_node_names_it_later() -> None:
    memory = Memory()
    child = WorkflowNodeMetadata(execution_id={"project": "p", "domain": "d", "name": "child"})
    memory.take([node_event("QUEUED")])
    assert codes(memory.take([node_event("RUNNING", workflow_node_metadata=child)])) == ["NOT_FOUND"]
    key = ExecutionKey("p", "d", "child")
    memory.rows.executions[key] = replace(execution_state(), key=key)
    assert codes(memory.take([node_event("RUNNING", workflow_node_metadata=child)])) == ["OK"]


def test_nodes_and_tasks_of_another_cluster_are_refused_in_every_phase() -> None:
    memory = Memory(cluster="c1")
    changes = memory.take([node_event("QUEUED", producer_id="c2"), task_event("QUEUED", producer_id="c2")])
    for verdict in changes.verdicts:
        assert verdict is not None
        (detail,) = verdict.details
        assert isinstance(detail, EventFailureReason)
        assert detail.incompatible_cluster.cluster == "c2"


def test_a_takeover_holds_for_the_rest_of_the_batch() -> None:
    changes = Memory(cluster="c1").take(
        [
            workflow_event("QUEUED", producer_id="c2"),
            node_event("QUEUED", producer_id="c2"),
            node_event("RUNNING", producer_id="c1"),
        ]
    )
    assert codes(changes) == ["OK", "OK", "FAILED_PRECONDITION"]


def test_only_a_takeover_reads_the_spec() -> None:
    assert wanted([workflow_event("RUNNING", producer_id="c")]).executions == {EXECUTION_KEY: False}
    assert wanted([workflow_event("QUEUED", producer_id="c")]).executions == {EXECUTION_KEY: True}
    assert wanted([node_event("QUEUED"), workflow_event("QUEUED")]).mentioned == set()


def test_refused_events_ask_for_no_objects() -> None:
    memory = Memory()
    memory.take([node_event("SUCCEEDED")])
    assert not memory.take([node_event("SUCCEEDED", output_data={}), node_event("FAILED", input_data={})]).offloads


WORKFLOW_RANK = {"UNDEFINED": 0, "QUEUED": 1, "RUNNING": 2, "SUCCEEDING": 3, "FAILING": 3, "ABORTING": 4}


class Model:
    """The plainest account of events.md: one event at a time, phases only."""

    def __init__(self) -> None:
        self.workflow = 0
        self.nodes: dict[str, int] = {}
        self.tasks: dict[str, tuple[int, int]] = {}

    def take(self, event: Event) -> str:
        if isinstance(event, WorkflowExecutionEvent):
            return self._workflow(event)
        return self._node(event) if isinstance(event, NodeExecutionEvent) else self._task(event)

    def _workflow(self, event: WorkflowExecutionEvent) -> str:
        if event.phase == self.workflow and event.phase != WorkflowExecution.QUEUED:
            return "ALREADY_EXISTS"
        if self.workflow in WORKFLOW_TERMINAL:
            return "FAILED_PRECONDITION"
        if event.phase not in WORKFLOW_TERMINAL:
            rank = WORKFLOW_RANK[WorkflowExecution.Phase.Name(self.workflow)]
            if rank == 4 or (rank == 2 and event.phase == WorkflowExecution.QUEUED):
                return "FAILED_PRECONDITION"
            if WORKFLOW_RANK[WorkflowExecution.Phase.Name(event.phase)] < rank:
                return "OK"
        self.workflow = event.phase
        return "OK"

    def _node(self, event: NodeExecutionEvent) -> str:
        stored = self.nodes.get(event.id.node_id)
        if stored == event.phase:
            return "ALREADY_EXISTS"
        if stored in NODE_TERMINAL:
            return "FAILED_PRECONDITION"
        self.nodes[event.id.node_id] = event.phase
        return "OK"

    def _task(self, event: TaskExecutionEvent) -> str:
        node = event.parent_node_execution_id.node_id
        if node not in self.nodes:
            return "NOT_FOUND"
        phase, version = self.tasks.get(node, (-1, 0))
        if phase == event.phase and event.phase_version <= version:
            return "ALREADY_EXISTS"
        if phase in TASK_TERMINAL:
            return "FAILED_PRECONDITION"
        self.tasks[node] = (event.phase, event.phase_version)
        return "OK"


NODE_IDS = st.sampled_from(["n0", "n1"])
HISTORY = st.lists(
    st.one_of(
        st.builds(workflow_event, st.sampled_from(WorkflowExecution.Phase.keys())),
        st.builds(node_event, st.sampled_from(NodeExecution.Phase.keys()), node=NODE_IDS),
        st.builds(task_event, st.sampled_from(TaskExecution.Phase.keys()), version=st.integers(0, 2), node=NODE_IDS),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(HISTORY, st.lists(st.integers(1, 6), max_size=12), st.data())
def test_batches_agree_with_one_event_after_the_other(
    history: list[Event], cuts: list[int], data: st.DataObject
) -> None:
    repeats = data.draw(st.lists(st.sampled_from(history), max_size=5)) if history else []
    events = history + repeats
    model, memory, single = Model(), Memory(), Memory()
    told: list[str] = []
    position = 0
    for size in [*cuts, len(events)]:
        part = [read_event(batched(event)) for event in events[position : position + size]]
        position += size
        if part:
            told += codes(memory.take(part))
    assert told == [model.take(event) for event in events]
    assert told == [codes(single.take([event]))[0] for event in events]
    assert memory.rows.executions == single.rows.executions
    assert memory.rows.tasks == single.rows.tasks
    assert memory.rows.nodes == single.rows.nodes
    assert memory.rows.executions[EXECUTION_KEY].closure.phase == model.workflow
    assert {key.node_id: node.closure.phase for key, node in memory.rows.nodes.items()} == model.nodes
    assert {
        key.node.node_id: (task.closure.phase, task.phase_version) for key, task in memory.rows.tasks.items()
    } == model.tasks


def test_a_repeat_is_recorded_already() -> None:
    memory = Memory()
    first = memory.take([node_event("QUEUED"), node_event("QUEUED")])
    assert first.verdicts[0] is None
    assert isinstance(first.verdicts[1], AlreadyExists)
    assert codes(memory.take([node_event("QUEUED", 99)])) == [Code.ALREADY_EXISTS.name]


def test_the_message_names_what_is_missing() -> None:
    (verdict,) = Memory().take([task_event("RUNNING", node="n9")]).verdicts
    assert isinstance(verdict, NotFound)
    assert "n9" in verdict.message
