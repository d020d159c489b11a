"""What is remembered of a lane between its batches, and what is not."""

from dataclasses import replace

import pytest
from flyteidl.event.event_pb2 import TaskExecutionMetadata

from services.executions.events import row_cache as memory_rules
from services.executions.events.row_cache import MOST_CHUNK_BYTES, RowCache
from services.executions.rules.events.batch import Event, Rows, RowsNeeded, fold_batch, rows_needed
from services.executions.rules.events.phase_counts import PhaseCounts
from services.executions.rules.events.state import ExecutionKey, NodeKey, ResourceChunks, TaskKey
from tests.support.event_makers import EXECUTION_KEY as KEY
from tests.support.event_makers import NODE_KEY as NODE
from tests.support.event_makers import STORAGE, execution_state, node_event, task_event, workflow_event

HERE = "here"


def remembering(*events: Event) -> RowCache:
    """A memory after a batch of `events` of the execution, whose cluster is known."""
    memory = RowCache(rows=Rows(clusters={KEY: "c"}, counts={KEY: PhaseCounts()}))
    take(memory, *events)
    return memory


def take(memory: RowCache, *events: Event) -> None:
    """Fold a batch of new rows over what is remembered."""
    numbers = [len(memory.rows.node_ids) + number for number in range(len(events))]
    memory.rows.add(Rows(free_node_ids=[*numbers], free_task_ids=[*numbers]))
    assert not any(fold_batch(events, memory.rows, STORAGE).verdicts)
    memory.keep(rows_needed(events), HERE)


def test_what_a_batch_left_need_not_be_read_for_the_next() -> None:
    memory = remembering(node_event("QUEUED", producer_id="c"), task_event("QUEUED", producer_id="c"))
    left = memory.lacking(rows_needed([node_event("RUNNING"), task_event("RUNNING")]))
    assert (left.mentioned, left.nodes, left.tasks, left.counted) == (set(), {}, {}, set())
    assert memory.rows.clusters == {KEY: "c"}
    assert memory.rows.nodes.keys() == memory.rows.node_ids.keys() == {NODE}
    assert memory.rows.tasks.keys() == memory.rows.task_ids.keys()


@pytest.mark.parametrize(
    ("event", "enough"),
    [
        (node_event("RUNNING"), True),
        (task_event("RUNNING"), True),
        (node_event("QUEUED", node="other"), False),
        (node_event("QUEUED", name="other"), False),
        (task_event("QUEUED", retry_attempt=1), False),
        (workflow_event("RUNNING"), False),
    ],
)
def test_what_is_remembered_is_enough_for_events_of_its_rows(event: Event, *, enough: bool) -> None:
    memory = remembering(node_event("QUEUED"), task_event("QUEUED"))
    assert memory.suffices(rows_needed([event])) is enough
    assert memory.suffices(rows_needed([node_event("RUNNING"), event])) is enough


@pytest.mark.parametrize(("index", "enough"), [(56, True), (63, True), (64, False)])
def test_what_is_remembered_is_enough_for_a_task_when_its_chunks_are_there(index: int, *, enough: bool) -> None:
    memory, _ = remembering_chunks(10)  # chunk 7: indexes 56 to 63
    event = task_event("RUNNING", name="e0", metadata=TaskExecutionMetadata(external_resources=[{"index": index}]))
    assert memory.suffices(rows_needed([event])) is enough
    assert not memory.suffices(rows_needed([task_event("SUCCEEDED", name="e0")]))  # filters the logs of all


def test_what_is_not_remembered_is_left_to_read() -> None:
    memory = remembering(node_event("QUEUED"))
    need = rows_needed([node_event("RUNNING", node="other"), task_event("QUEUED"), workflow_event("RUNNING")])
    left = memory.lacking(need)
    assert left.nodes == {NodeKey(KEY, "other"): True}
    assert left.tasks == need.tasks
    assert left.executions == need.executions


def test_numbers_set_aside_for_new_rows_are_not_kept() -> None:
    """The next batch sets aside its own; those left over would pile up."""
    memory = remembering(node_event("QUEUED"))
    assert memory.rows.free_node_ids == memory.rows.free_task_ids == []


@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "SKIPPED", "RECOVERED", "ABORTED", "TIMED_OUT"])
def test_a_node_that_has_ended_is_forgotten(phase: str) -> None:
    memory = remembering(node_event("QUEUED"), node_event(phase))
    assert memory.lacking(rows_needed([node_event("RUNNING")])).nodes == {NODE: True}
    assert memory.lacking(rows_needed([task_event("RUNNING")])).nodes == {NODE: False}


@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "ABORTED"])
def test_an_attempt_that_has_ended_is_forgotten(phase: str) -> None:
    memory = remembering(node_event("QUEUED"), task_event("QUEUED"), task_event(phase))
    need = rows_needed([task_event("RUNNING")])
    assert memory.lacking(need).tasks == need.tasks


def remembering_chunks(*sizes: int) -> tuple[RowCache, list[TaskKey]]:
    """A memory of tasks that have one chunk each, of so many bytes."""
    memory = RowCache()
    tasks = []
    for number, size in enumerate(sizes):
        key = ExecutionKey("p", "d", f"e{number}")
        memory.rows.add(Rows(clusters={key: ""}, counts={key: PhaseCounts()}))
        take(memory, node_event("QUEUED", name=key.name), task_event("RUNNING", name=key.name))
        need = rows_needed([task_event("RUNNING", name=key.name)])
        (task,) = need.tasks
        state = memory.rows.tasks[task]
        memory.rows.tasks[task] = replace(state, chunks=ResourceChunks({7: bytes(size)}, frozenset({7})))
        memory.keep(need, HERE)
        tasks.append(task)
    return memory, tasks


def recalled(memory: RowCache, task: TaskKey) -> ResourceChunks | None:
    left = memory.lacking(RowsNeeded(tasks={task: True}))
    assert (task in left.tasks) is (task not in memory.rows.tasks) is (task not in memory.rows.task_ids)
    return memory.rows.tasks[task].chunks if task in memory.rows.tasks else None


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


def test_a_child_that_another_lane_may_change_is_not_remembered() -> None:
    child = ExecutionKey("p", "d", "child")
    event = node_event("RUNNING", name="e")
    event.workflow_node_metadata.execution_id.CopyFrom(workflow_event("RUNNING", name=child.name).execution_id)
    memory = RowCache(rows=Rows(clusters={KEY: "c", child: "old"}))
    memory.keep(rows_needed([event]), HERE)
    assert memory.lacking(rows_needed([event])).mentioned == {child}


def test_an_execution_that_was_taken_over_is_remembered_with_its_new_cluster() -> None:
    memory = remembering(node_event("QUEUED"))
    need = rows_needed([workflow_event("QUEUED", producer_id="new")])
    memory.rows.executions[KEY] = execution_state("QUEUED", cluster="new")
    memory.keep(need, HERE)
    assert memory.rows.clusters == {KEY: "new"}
    assert memory.rows.executions == {}


def test_an_execution_that_has_ended_is_forgotten() -> None:
    memory = remembering(node_event("QUEUED"))
    memory.rows.executions[KEY] = execution_state("SUCCEEDED")
    memory.keep(rows_needed([workflow_event("SUCCEEDED")]), HERE)
    assert (memory.rows.executions, memory.rows.clusters, memory.rows.counts) == ({}, {}, {})


def test_after_a_failure_nothing_is_known() -> None:
    memory, _ = remembering_chunks(1)
    memory.forget()
    assert memory == RowCache()


def test_the_oldest_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_rules, "MOST_ROWS", 2)
    memory = remembering(*(node_event("QUEUED", node=f"n{number}") for number in range(3)))
    assert memory.rows.node_ids.keys() == memory.rows.nodes.keys() == {NodeKey(KEY, "n1"), NodeKey(KEY, "n2")}


def test_the_oldest_go_when_they_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_rules, "MOST_BYTES", 2500)
    events = [node_event("RUNNING", node=f"n{number}", deck_uri="x" * 1000) for number in range(2)]
    memory = remembering(*events, task_event("QUEUED", node="n1", input_uri="x" * 1000))
    assert memory.rows.node_ids.keys() == memory.rows.nodes.keys() == {NodeKey(KEY, "n1")}
    assert len(memory.rows.task_ids) == len(memory.rows.tasks) == 1
    take(memory, node_event("SUCCEEDED", node="n1"))  # what has ended takes no room
    take(memory, node_event("RUNNING", node="n2", deck_uri="x" * 1000))
    assert (len(memory.rows.nodes), len(memory.rows.tasks)) == (1, 1)
    take(memory, node_event("RUNNING", node="n3", deck_uri="x" * 3000))
    assert (memory.rows.nodes, memory.rows.tasks) == ({}, {})


def test_a_cluster_with_a_long_name_is_not_remembered() -> None:
    memory = remembering(node_event("QUEUED"))
    memory.rows.executions[KEY] = execution_state("QUEUED", cluster="x" * 1000)
    memory.keep(rows_needed([workflow_event("QUEUED", producer_id="x" * 1000)]), HERE)
    assert memory.rows.clusters == {}


def test_a_row_goes_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state without the number of its row would be of no use, and the row would not be read again."""
    monkeypatch.setattr(memory_rules, "MOST_ROWS", 1)
    memory = remembering(node_event("QUEUED"))
    memory.rows.node_ids[NodeKey(KEY, "n1")] = 2
    memory.keep(rows_needed([task_event("QUEUED", node="n1")]), HERE)  # needs no more of n1 than that it exists
    assert memory.lacking(rows_needed([node_event("RUNNING")])).nodes == {NODE: True}
    assert memory.rows.nodes == {}


def test_of_a_task_that_another_lane_moves_on_only_its_row_is_remembered() -> None:
    task = task_event("QUEUED", name="e")
    event = node_event("QUEUED", name="child")
    event.parent_task_metadata.id.task_id.CopyFrom(task.task_id)
    event.parent_task_metadata.id.node_execution_id.CopyFrom(task.parent_node_execution_id)
    need = rows_needed([event])
    (key,) = need.tasks
    memory = RowCache(rows=Rows(task_ids={key: 1}))
    memory.keep(need, HERE)
    assert memory.lacking(need).tasks == {}
    assert memory.lacking(rows_needed([task])).tasks == {key: True}
