"""The row cache of a lane."""

from dataclasses import replace

import pytest
from flyteidl.event.event_pb2 import TaskExecutionMetadata

from services.executions.events import row_cache
from services.executions.events.row_cache import MOST_CHUNK_BYTES, MOST_ROW_BYTES, RowCache
from services.executions.rules.events.batch import Event, Rows, RowsNeeded, fold_batch, rows_needed
from services.executions.rules.events.lane_cursor import LaneCursor
from services.executions.rules.events.phase_counts import PhaseCounts
from services.executions.rules.events.state import ExecutionKey, NodeKey, ResourceChunks, TaskKey
from tests.support.event_makers import EXECUTION_KEY as KEY
from tests.support.event_makers import LAYOUT, execution_state, node_event, task_event, workflow_event
from tests.support.event_makers import NODE_KEY as NODE

CURSOR = LaneCursor(b"", 1, None)


def cache_after(*events: Event) -> RowCache:
    """Return a cache after a batch of `events` of the execution, whose cluster is known."""
    cache = RowCache(rows=Rows(clusters={KEY: "c"}, counts={KEY: PhaseCounts()}))
    apply(cache, *events)
    return cache


def apply(cache: RowCache, *events: Event) -> None:
    """Fold a batch of new rows over the cached ones."""
    ids = [len(cache.rows.node_ids) + number for number in range(len(events))]
    cache.rows.add(Rows(free_node_ids=[*ids], free_task_ids=[*ids]))
    assert not any(fold_batch(events, cache.rows, LAYOUT).outcomes)
    cache.store(rows_needed(events), CURSOR)


def test_rows_of_a_batch_are_not_missing_for_the_next() -> None:
    cache = cache_after(node_event("QUEUED", producer_id="c"), task_event("QUEUED", producer_id="c"))
    missing = cache.missing_rows(rows_needed([node_event("RUNNING"), task_event("RUNNING")]))
    assert (missing.referenced, missing.nodes, missing.tasks, missing.counted) == (set(), {}, {}, set())
    assert cache.rows.clusters == {KEY: "c"}
    assert cache.rows.nodes.keys() == cache.rows.node_ids.keys() == {NODE}
    assert cache.rows.tasks.keys() == cache.rows.task_ids.keys()


@pytest.mark.parametrize(
    ("event", "covered"),
    [
        (node_event("RUNNING"), True),
        (task_event("RUNNING"), True),
        (node_event("QUEUED", node="other"), False),
        (node_event("QUEUED", name="other"), False),
        (task_event("QUEUED", retry_attempt=1), False),
        (workflow_event("RUNNING"), False),
    ],
)
def test_covers_events_of_cached_rows_only(event: Event, *, covered: bool) -> None:
    cache = cache_after(node_event("QUEUED"), task_event("QUEUED"))
    assert cache.covers(rows_needed([event])) is covered
    assert cache.covers(rows_needed([node_event("RUNNING"), event])) is covered


@pytest.mark.parametrize(("index", "covered"), [(56, True), (63, True), (64, False)])
def test_covers_task_events_with_cached_chunks_only(index: int, *, covered: bool) -> None:
    cache, _ = cache_with_chunks(10)  # chunk 7: indexes 56 to 63
    event = task_event("RUNNING", name="e0", metadata=TaskExecutionMetadata(external_resources=[{"index": index}]))
    assert cache.covers(rows_needed([event])) is covered
    assert not cache.covers(rows_needed([task_event("SUCCEEDED", name="e0")]))  # filters the logs of all


def test_missing_rows_are_those_that_are_not_cached() -> None:
    cache = cache_after(node_event("QUEUED"))
    needed = rows_needed([node_event("RUNNING", node="other"), task_event("QUEUED"), workflow_event("RUNNING")])
    missing = cache.missing_rows(needed)
    assert missing.nodes == {NodeKey(KEY, "other"): True}
    assert missing.tasks == needed.tasks
    assert missing.executions == needed.executions


def test_reserved_ids_are_not_cached() -> None:
    """The next batch reserves its own; unused ones would pile up."""
    cache = cache_after(node_event("QUEUED"))
    assert cache.rows.free_node_ids == cache.rows.free_task_ids == []


@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "SKIPPED", "RECOVERED", "ABORTED", "TIMED_OUT"])
def test_a_node_in_a_terminal_phase_is_removed(phase: str) -> None:
    cache = cache_after(node_event("QUEUED"), node_event(phase))
    assert cache.missing_rows(rows_needed([node_event("RUNNING")])).nodes == {NODE: True}
    assert cache.missing_rows(rows_needed([task_event("RUNNING")])).nodes == {NODE: False}


@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "ABORTED"])
def test_an_attempt_in_a_terminal_phase_is_removed(phase: str) -> None:
    cache = cache_after(node_event("QUEUED"), task_event("QUEUED"), task_event(phase))
    needed = rows_needed([task_event("RUNNING")])
    assert cache.missing_rows(needed).tasks == needed.tasks


def cache_with_chunks(*sizes: int) -> tuple[RowCache, list[TaskKey]]:
    """Return a cache of tasks that have one chunk each, of these sizes in bytes."""
    cache = RowCache()
    tasks = []
    for number, size in enumerate(sizes):
        key = ExecutionKey("p", "d", f"e{number}")
        cache.rows.add(Rows(clusters={key: ""}, counts={key: PhaseCounts()}))
        apply(cache, node_event("QUEUED", name=key.name), task_event("RUNNING", name=key.name))
        needed = rows_needed([task_event("RUNNING", name=key.name)])
        (task,) = needed.tasks
        state = cache.rows.tasks[task]
        cache.rows.tasks[task] = replace(state, chunks=ResourceChunks({7: bytes(size)}, frozenset({7})))
        cache.store(needed, CURSOR)
        tasks.append(task)
    return cache, tasks


def cached_chunks(cache: RowCache, task: TaskKey) -> ResourceChunks | None:
    missing = cache.missing_rows(RowsNeeded(tasks={task: True}))
    assert (task in missing.tasks) is (task not in cache.rows.tasks) is (task not in cache.rows.task_ids)
    return cache.rows.tasks[task].chunks if task in cache.rows.tasks else None


def test_chunks_are_cached_as_saved() -> None:
    cache, (task,) = cache_with_chunks(10)
    assert cached_chunks(cache, task) == ResourceChunks({7: bytes(10)})


def test_a_task_with_too_large_chunks_is_not_cached() -> None:
    cache, (small, large) = cache_with_chunks(MOST_CHUNK_BYTES // 2, MOST_CHUNK_BYTES)
    assert cached_chunks(cache, small) is not None
    assert cached_chunks(cache, large) is None


def test_the_oldest_of_too_many_tasks_with_chunks_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "MOST_CHUNKED", 2)
    cache, (oldest, *others) = cache_with_chunks(1, 1, 1)
    assert cached_chunks(cache, oldest) is None
    assert all(cached_chunks(cache, task) is not None for task in others)


def test_a_child_that_another_lane_may_change_is_not_cached() -> None:
    child = ExecutionKey("p", "d", "child")
    event = node_event("RUNNING", name="e")
    event.workflow_node_metadata.execution_id.CopyFrom(workflow_event("RUNNING", name=child.name).execution_id)
    cache = RowCache(rows=Rows(clusters={KEY: "c", child: "old"}))
    cache.store(rows_needed([event]), CURSOR)
    assert cache.missing_rows(rows_needed([event])).referenced == {child}


def test_a_reassigned_execution_is_cached_with_its_new_cluster() -> None:
    cache = cache_after(node_event("QUEUED"))
    needed = rows_needed([workflow_event("QUEUED", producer_id="new")])
    cache.rows.executions[KEY] = execution_state("QUEUED", cluster="new")
    cache.store(needed, CURSOR)
    assert cache.rows.clusters == {KEY: "new"}
    assert cache.rows.executions == {}


def test_an_execution_in_a_terminal_phase_is_removed() -> None:
    cache = cache_after(node_event("QUEUED"))
    cache.rows.executions[KEY] = execution_state("SUCCEEDED")
    cache.store(rows_needed([workflow_event("SUCCEEDED")]), CURSOR)
    assert (cache.rows.executions, cache.rows.clusters, cache.rows.counts) == ({}, {}, {})


def test_a_cleared_cache_is_empty() -> None:
    cache, _ = cache_with_chunks(1)
    cache.clear()
    assert cache == RowCache()


def test_the_oldest_of_too_many_rows_are_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "MOST_ROWS", 2)
    cache = cache_after(*(node_event("QUEUED", node=f"n{number}") for number in range(3)))
    assert cache.rows.node_ids.keys() == cache.rows.nodes.keys() == {NodeKey(KEY, "n1"), NodeKey(KEY, "n2")}


def test_the_oldest_of_too_large_rows_are_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "MOST_CACHE_BYTES", 2500)
    events = [node_event("RUNNING", node=f"n{number}", deck_uri="x" * 1000) for number in range(2)]
    cache = cache_after(*events, task_event("QUEUED", node="n1", input_uri="x" * 1000))
    assert cache.rows.node_ids.keys() == cache.rows.nodes.keys() == {NodeKey(KEY, "n1")}
    assert len(cache.rows.task_ids) == len(cache.rows.tasks) == 1
    apply(cache, node_event("SUCCEEDED", node="n1"))  # removed, so it takes no space
    apply(cache, node_event("RUNNING", node="n2", deck_uri="x" * 1000))
    assert (len(cache.rows.nodes), len(cache.rows.tasks)) == (1, 1)
    apply(cache, node_event("RUNNING", node="n3", deck_uri="x" * 3000))
    assert (cache.rows.nodes, cache.rows.tasks) == ({}, {})


def test_rows_of_many_parts_count_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "MOST_CACHE_BYTES", 100_000)
    for fields, cached in (({"reason": "x" * 2000}, 2), ({"log_context": {"pods": [{}] * 1000}}, 1)):
        events = [task_event("RUNNING", retry_attempt=attempt, **fields) for attempt in range(2)]
        assert len(cache_after(node_event("RUNNING"), *events).rows.tasks) == cached


@pytest.mark.parametrize("field", ["deck_uri", "spec_node_id"])
def test_a_large_row_is_not_cached(field: str) -> None:
    cache = cache_after(node_event("RUNNING", 10, **{field: "x" * MOST_ROW_BYTES}))
    assert (cache.rows.nodes, cache.rows.node_ids) == ({}, {})
    cache = cache_after(node_event("RUNNING"), task_event("RUNNING", reason="x" * MOST_ROW_BYTES))
    assert (cache.rows.tasks, cache.rows.task_ids) == ({}, {})


def test_a_cluster_with_a_long_name_is_not_cached() -> None:
    cache = cache_after(node_event("QUEUED"))
    cache.rows.executions[KEY] = execution_state("QUEUED", cluster="x" * 1000)
    cache.store(rows_needed([workflow_event("QUEUED", producer_id="x" * 1000)]), CURSOR)
    assert cache.rows.clusters == {}


def test_a_row_is_evicted_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state without the id of its row could not be written, and the row would not be read again."""
    monkeypatch.setattr(row_cache, "MOST_ROWS", 1)
    cache = cache_after(node_event("QUEUED"))
    cache.rows.node_ids[NodeKey(KEY, "n1")] = 2
    cache.store(rows_needed([task_event("QUEUED", node="n1")]), CURSOR)  # needs only that n1 exists
    assert cache.missing_rows(rows_needed([node_event("RUNNING")])).nodes == {NODE: True}
    assert cache.rows.nodes == {}


def test_a_task_that_another_lane_changes_is_cached_without_its_state() -> None:
    task = task_event("QUEUED", name="e")
    event = node_event("QUEUED", name="child")
    event.parent_task_metadata.id.task_id.CopyFrom(task.task_id)
    event.parent_task_metadata.id.node_execution_id.CopyFrom(task.parent_node_execution_id)
    needed = rows_needed([event])
    (key,) = needed.tasks
    cache = RowCache(rows=Rows(task_ids={key: 1}))
    cache.store(needed, CURSOR)
    assert cache.missing_rows(needed).tasks == {}
    assert cache.missing_rows(rows_needed([task])).tasks == {key: True}
