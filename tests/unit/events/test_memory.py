"""What is remembered of a lane between its batches, and what is not."""

from dataclasses import replace

import pytest
from flyteidl.event.event_pb2 import NodeExecutionEvent

from services.executions.rules.events import memory as memory_rules
from services.executions.rules.events.batch import Event, Rows, Wanted, fold_batch, united, wanted
from services.executions.rules.events.memory import MOST_CHUNK_BYTES, MOST_ROWS, LaneMemory
from services.executions.rules.events.phase_counts import PhaseCounts
from services.executions.rules.events.state import ExecutionKey, NodeKey, ResourceChunks, TaskKey
from tests.support.event_makers import EXECUTION_KEY as KEY
from tests.support.event_makers import NODE_KEY as NODE
from tests.support.event_makers import STORAGE, execution_state, node_event, task_event, workflow_event


def remembering(*events: Event) -> tuple[LaneMemory, Rows]:
    """A memory after a batch of `events` of the execution, whose cluster is known."""
    memory, rows = LaneMemory(), Rows(clusters={KEY: "c"}, counts={KEY: PhaseCounts()})
    need = wanted(events)
    memory.recall(need, rows)
    rows.free_node_ids, rows.free_task_ids = [1, 2, 3], [1, 2, 3]
    changes = fold_batch(events, rows, STORAGE)
    assert not any(changes.verdicts)
    memory.keep(need, rows, "here")
    return memory, rows


def test_what_a_batch_left_need_not_be_read_for_the_next() -> None:
    memory, _ = remembering(node_event("QUEUED", producer_id="c"), task_event("QUEUED", producer_id="c"))
    rows = Rows()
    left = memory.recall(wanted([node_event("RUNNING"), task_event("RUNNING")]), rows)
    assert (left.mentioned, left.nodes, left.tasks) == (set(), {}, {})
    assert rows.clusters == {KEY: "c"}
    assert rows.node_ids == {NODE: 1}
    assert rows.nodes.keys() == {NODE}
    assert set(rows.task_ids.values()) == {1}


def test_what_is_not_remembered_is_left_to_read() -> None:
    memory, _ = remembering(node_event("QUEUED"))
    need = wanted([node_event("RUNNING", node="other"), task_event("QUEUED"), workflow_event("RUNNING")])
    left = memory.recall(need, Rows())
    assert left.nodes == {NodeKey(KEY, "other"): True}
    assert left.tasks == need.tasks
    assert left.executions == need.executions


@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "SKIPPED", "RECOVERED", "ABORTED", "TIMED_OUT"])
def test_what_has_ended_is_forgotten(phase: str) -> None:
    memory, _ = remembering(node_event("QUEUED"), node_event(phase))
    assert memory.recall(wanted([node_event("RUNNING")]), Rows()).nodes == {NODE: True}


def remembering_chunks(*sizes: int) -> tuple[LaneMemory, list[TaskKey]]:
    """A memory of tasks that have one chunk each, of so many bytes."""
    memory = LaneMemory()
    tasks = []
    for number, size in enumerate(sizes):
        events: list[Event] = [node_event("QUEUED", name=f"e{number}"), task_event("RUNNING", name=f"e{number}")]
        key = ExecutionKey("p", "d", f"e{number}")
        need, rows = wanted(events), Rows(clusters={key: ""}, counts={key: PhaseCounts()})
        rows.free_node_ids, rows.free_task_ids = [number], [number]
        assert not any(fold_batch(events, rows, STORAGE).verdicts)
        (task,) = need.tasks
        rows.tasks[task] = replace(rows.tasks[task], chunks=ResourceChunks({7: bytes(size)}, frozenset({7})))
        memory.keep(need, rows, "here")
        tasks.append(task)
    return memory, tasks


def recalled(memory: LaneMemory, task: TaskKey) -> ResourceChunks | None:
    rows = Rows()
    left = memory.recall(Wanted(tasks={task: True}), rows)
    assert (task in left.tasks) is (task not in rows.tasks)
    return rows.tasks[task].chunks if task in rows.tasks else None


def test_chunks_are_remembered_as_they_were_saved() -> None:
    memory, (task,) = remembering_chunks(10)
    assert recalled(memory, task) == ResourceChunks({7: bytes(10)})


def test_of_a_task_with_too_many_chunks_the_state_is_read_anew() -> None:
    memory, (small, large) = remembering_chunks(MOST_CHUNK_BYTES, MOST_CHUNK_BYTES + 1)
    assert recalled(memory, small) is not None
    assert recalled(memory, large) is None


def test_of_too_many_tasks_with_chunks_the_oldest_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_rules, "MOST_CHUNKED", 2)
    memory, (oldest, *others) = remembering_chunks(1, 1, 1)
    assert recalled(memory, oldest) is None
    assert all(recalled(memory, task) is not None for task in others)


def launching(child: str) -> NodeExecutionEvent:
    event = node_event("RUNNING", name="e")
    event.workflow_node_metadata.execution_id.CopyFrom(workflow_event("RUNNING", name=child).execution_id)
    return event


def test_a_child_that_another_lane_may_change_is_not_remembered() -> None:
    child = ExecutionKey("p", "d", "child")
    memory, rows = LaneMemory(), Rows(clusters={KEY: "c", child: "old"})
    event = launching("child")
    memory.keep(wanted([event]), rows, "here")
    assert memory.recall(wanted([event]), Rows()).mentioned == {child}


def test_an_execution_that_was_taken_over_is_remembered_with_its_new_cluster() -> None:
    memory, rows = remembering(node_event("QUEUED"))
    need = wanted([workflow_event("QUEUED", producer_id="new")])
    rows.executions[KEY] = execution_state("QUEUED", cluster="new")
    memory.keep(need, rows, "here")
    recalled = Rows()
    memory.recall(wanted([node_event("RUNNING")]), recalled)
    assert recalled.clusters == {KEY: "new"}


def test_after_a_failure_nothing_is_known() -> None:
    memory, _ = remembering(node_event("QUEUED"))
    memory.forget()
    need = wanted([node_event("RUNNING")])
    assert memory.left is None
    assert memory.recall(need, Rows()) == need


def test_the_oldest_go_when_there_are_too_many() -> None:
    memory, rows = LaneMemory(), Rows()
    events = [node_event("QUEUED", node=f"n{number}") for number in range(MOST_ROWS + 1)]
    need = wanted(events)
    rows.node_ids = {key: number for number, key in enumerate(need.nodes)}
    memory.keep(need, rows, "here")
    assert len(memory.node_ids) == MOST_ROWS
    assert NodeKey(KEY, "n0") not in memory.node_ids


def test_a_row_goes_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state without the number of its row would be of no use, and the row would not be read again."""
    monkeypatch.setattr("services.executions.rules.events.memory.MOST_ROWS", 1)
    memory, rows = remembering(node_event("QUEUED"))
    rows.node_ids[NodeKey(KEY, "n1")] = 2
    memory.keep(wanted([task_event("QUEUED", node="n1")]), rows, "here")  # needs no more of n1 than that it exists
    recalled = Rows()
    left = memory.recall(wanted([node_event("RUNNING")]), recalled)
    assert left.nodes == {NODE: True}
    assert recalled.nodes == {}


def naming_a_task_of(other: str) -> NodeExecutionEvent:
    task = task_event("QUEUED", name=other)
    event = node_event("QUEUED", name="child")
    event.parent_task_metadata.id.task_id.CopyFrom(task.task_id)
    event.parent_task_metadata.id.node_execution_id.CopyFrom(task.parent_node_execution_id)
    return event


def test_a_task_of_another_lane_is_not_remembered() -> None:
    """Its own lane moves it on; what one lane remembers stands for all that are applied together."""
    _, rows = remembering(node_event("QUEUED"), task_event("QUEUED"))
    memory, need = LaneMemory(), wanted([naming_a_task_of("e")])
    memory.keep(need, rows, "here")
    recalled = Rows()
    assert memory.recall(need, recalled).tasks == need.tasks
    assert (recalled.tasks, recalled.task_ids) == ({}, {})


@pytest.mark.parametrize("turn", [1, -1])
def test_a_lane_gets_the_state_of_its_task_though_another_only_names_it(turn: int) -> None:
    naming, changing = wanted([naming_a_task_of("e")]), wanted([task_event("RUNNING")])
    (task,) = changing.tasks
    assert united([naming, changing][::turn]).tasks == {task: True}


def test_lanes_need_together_what_each_needs() -> None:
    one, other = wanted([workflow_event("RUNNING", name="a")]), wanted([node_event("QUEUED", name="b")])
    both = united([one, other])
    assert both.executions.keys() == {ExecutionKey("p", "d", "a")}
    assert both.mentioned == {ExecutionKey("p", "d", "b")}
    assert both.nodes.keys() == {NodeKey(ExecutionKey("p", "d", "b"), "n0")}


def test_what_one_lane_changes_is_not_also_mentioned_by_another() -> None:
    parent = wanted([launching("b")])
    both = united([parent, wanted([workflow_event("RUNNING", name="b")])])
    assert ExecutionKey("p", "d", "b") not in both.mentioned
