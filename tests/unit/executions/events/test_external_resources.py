"""External resources in chunks: clients receive the same as from one list, and an event changes few chunks."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.catalog_pb2 import CatalogCacheStatus
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl.event.event_pb2 import ExternalResourceInfo, TaskExecutionEvent, TaskExecutionMetadata
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from services.executions.rules.events.external_resources import (
    CHUNK_INDEXES,
    INLINE_RESOURCES,
    chunks_needed,
    whole_closure,
)
from services.executions.rules.events.state import Offloads, ResourceChunks, TaskState
from services.executions.rules.events.task import check_transition, fold_first, fold_task
from services.executions.rules.events.verdicts import MOST_STORED_PARTS
from services.kit.errors import ServiceError
from tests.support.event_makers import LAYOUT, TASK_KEY, task_event
from tests.support.external_resources import ResourceList, metadata_with, resource

MANY = INLINE_RESOURCES + 1


class Row:
    """A task's row and those of its chunks, read and written by batches as in the store."""

    def __init__(self) -> None:
        self.closure: bytes | None = None
        self.version = 0
        self.chunked = False
        self.chunks: dict[int, bytes] = {}
        self.written: set[int] = set()  # chunks that the last batch wrote

    def take(self, events: Iterable[TaskExecutionEvent]) -> Iterator[TaskExecutionEvent]:
        """Apply a batch and yield the accepted events."""
        events = list(events)
        state = self._read(events)
        for event in events:
            try:
                if state is None:
                    state = fold_first(TASK_KEY, event, LAYOUT, Offloads())
                else:
                    check_transition(state, event)
                    state = fold_task(state, event, LAYOUT, Offloads())
            except ServiceError:
                continue
            yield event
        if state is not None:
            self._write(state)

    def whole_closure(self) -> TaskExecutionClosure:
        """Return the closure that clients receive."""
        chunks = b"".join(self.chunks[number] for number in sorted(self.chunks)) if self.chunked else None
        return TaskExecutionClosure.FromString(whole_closure(self.closure or b"", chunks))

    def _read(self, events: list[TaskExecutionEvent]) -> TaskState | None:
        if self.closure is None:
            return None
        chunks = ResourceChunks({}) if self.chunked else None
        state = TaskState(TASK_KEY, TaskExecutionClosure.FromString(self.closure), self.version, "", chunks)
        if chunks is None:
            return state
        numbers = chunks_needed(state, events)
        return replace(
            state,
            chunks=ResourceChunks({n: data for n, data in self.chunks.items() if numbers is None or n in numbers}),
        )

    def _write(self, state: TaskState) -> None:
        self.closure, self.version = state.closure.SerializeToString(), state.phase_version
        self.chunked = state.chunks is not None
        self.written = set(state.chunks.unsaved) if state.chunks else set()
        self.chunks |= {number: state.chunks.data[number] for number in self.written} if state.chunks else {}


def resources(row: Row) -> list[ExternalResourceInfo]:
    return list(row.whole_closure().metadata.external_resources)


def keys(row: Row) -> list[tuple[int, int]]:
    return [(info.index, info.retry_attempt) for info in resources(row)]


def apply(row: Row, *events: TaskExecutionEvent) -> None:
    assert list(row.take(events)) == list(events)


def _struct(value: int) -> Struct:
    made = Struct()
    made["a"] = value
    return made


LOG = st.builds(
    TaskLog,
    uri=st.sampled_from("abc"),
    name=st.sampled_from(("", "x", "y")),
    ShowWhilePending=st.booleans(),
    HideOnceFinished=st.booleans(),
)
INDEX = st.one_of(st.integers(0, 3 * CHUNK_INDEXES), st.sampled_from((0, 1000, 2**32 - 1)))
RESOURCE = st.builds(
    ExternalResourceInfo,
    index=INDEX,
    retry_attempt=st.integers(0, 2),
    external_id=st.sampled_from(("", "a", "b")),
    phase=st.sampled_from(TaskExecution.Phase.values()),
    cache_status=st.sampled_from(CatalogCacheStatus.values()),
    logs=st.lists(LOG, max_size=3),
    custom_info=st.one_of(st.none(), st.builds(_struct, st.integers(0, 2))),
)
METADATA = st.one_of(
    st.none(),
    st.builds(TaskExecutionMetadata, external_resources=st.lists(RESOURCE, max_size=4)),
    st.builds(TaskExecutionMetadata, external_resources=st.lists(RESOURCE, min_size=MANY, max_size=2 * MANY)),
)
PHASE = st.sampled_from(("QUEUED", "INITIALIZING", "RUNNING", "RUNNING", "RUNNING", "WAITING_FOR_RESOURCES", "FAILED"))
EVENTS = st.lists(st.builds(task_event, PHASE, version=st.integers(0, 5), metadata=METADATA), min_size=1, max_size=12)


@settings(max_examples=300)
@given(EVENTS, st.lists(st.integers(1, 4), max_size=12))
def test_clients_receive_the_resources_of_the_model(events: list[TaskExecutionEvent], cuts: list[int]) -> None:
    row, expected = Row(), ResourceList()
    position = 0
    for size in [*cuts, len(events)]:
        for event in row.take(events[position : position + size]):
            expected.take(event)
        position += size
        assert resources(row) == expected.resources
        assert row.whole_closure().HasField("metadata") == expected.present


def test_few_resources_stay_in_the_closure() -> None:
    row = Row()
    apply(row, task_event("QUEUED", metadata=metadata_with(*map(resource, range(INLINE_RESOURCES)))))
    apply(row, task_event("RUNNING", metadata=metadata_with(resource(0, phase="RUNNING"))))
    assert not row.chunked
    apply(row, task_event("RUNNING", version=1, metadata=metadata_with(resource(0, 1))))
    assert row.chunked
    assert not TaskExecutionClosure.FromString(row.closure or b"").metadata.external_resources
    assert keys(row) == [(0, 0), (0, 1), *((index, 0) for index in range(1, INLINE_RESOURCES))]


def test_an_event_reads_and_writes_only_the_chunks_of_its_indexes() -> None:
    row = Row()
    apply(row, task_event("RUNNING", metadata=metadata_with(*map(resource, range(1000)))))
    assert len(row.written) == 1000 / CHUNK_INDEXES
    event = task_event(
        "RUNNING", version=1, metadata=metadata_with(resource(3, phase="RUNNING"), resource(500, 1), resource(1))
    )
    state = row._read([])
    assert state is not None
    touched = {0, 500 // CHUNK_INDEXES}
    assert chunks_needed(state, [event]) == touched
    apply(row, event)
    assert row.written == touched


def test_an_unchanged_chunk_is_not_written() -> None:
    row = Row()
    all_succeeded = metadata_with(*(resource(index, phase="SUCCEEDED") for index in range(MANY)))
    apply(row, task_event("RUNNING", metadata=all_succeeded))
    apply(row, task_event("SUCCEEDED", metadata=all_succeeded))
    assert row.written == set()


def test_a_change_of_the_tasks_phase_filters_the_logs_of_all_resources() -> None:
    log = TaskLog(uri="a", HideOnceFinished=True)
    row = Row()
    apply(row, task_event("RUNNING", metadata=metadata_with(*(resource(index, logs=[log]) for index in range(MANY)))))
    apply(row, task_event("RUNNING", version=1, metadata=metadata_with(resource(0))))
    assert [list(info.logs) for info in resources(row)] == [[log]] * MANY
    apply(row, task_event("SUCCEEDED"))
    assert [list(info.logs) for info in resources(row)] == [[]] * MANY


def test_attempts_of_one_index_do_not_grow_beyond_a_chunk_and_the_task_always_ends() -> None:
    row = Row()
    apply(row, task_event("RUNNING", metadata=metadata_with(*map(resource, range(MANY)))))
    many = metadata_with(*(resource(0, number) for number in range(MOST_STORED_PARTS)))
    assert not list(row.take([task_event("RUNNING", version=1, metadata=many)]))
    apply(row, task_event("SUCCEEDED", metadata=many))


def test_all_chunks_are_needed_only_for_a_phase_that_may_drop_logs() -> None:
    row = Row()
    apply(row, task_event("QUEUED", metadata=metadata_with(*map(resource, range(MANY)))))
    state = row._read([])
    assert state is not None
    assert chunks_needed(state, [task_event("RUNNING")]) == set()
    assert chunks_needed(state, [task_event("RUNNING"), task_event("QUEUED", version=1)]) is None
    assert chunks_needed(state, [task_event("SUCCEEDED")]) is None
    assert chunks_needed(state, [task_event("QUEUED", version=1)]) == set()


def test_resources_of_a_task_that_is_pending_again_are_filtered_again() -> None:
    row, log = Row(), TaskLog(uri="a")
    shown = metadata_with(*(resource(index, logs=[log]) for index in range(MANY)))
    apply(row, task_event("RUNNING", metadata=shown))
    again = [
        task_event("QUEUED"),
        task_event("RUNNING", metadata=metadata_with(resource(0, logs=[log]))),
        task_event("QUEUED"),
    ]
    apply(row, *again)
    assert [list(info.logs) for info in resources(row)] == [[]] * MANY


def test_resources_without_an_index_of_the_first_event_are_not_merged() -> None:
    row = Row()
    apply(row, task_event("RUNNING", metadata=metadata_with(*(resource(0, external_id=str(n)) for n in range(MANY)))))
    apply(row, task_event("RUNNING", version=1, metadata=metadata_with(resource(0, external_id="x"))))
    assert [info.external_id for info in resources(row)] == ["x", *map(str, range(1, MANY))]


def test_resources_in_the_closure_of_a_former_release_are_moved_by_the_next_event() -> None:
    row = Row()
    metadata = metadata_with(*map(resource, range(MANY)))
    row.closure = TaskExecutionClosure(phase="RUNNING", metadata=metadata).SerializeToString()
    assert row.whole_closure().metadata == metadata
    apply(row, task_event("RUNNING", version=1))
    assert row.chunked
    assert row.whole_closure().metadata == metadata


def test_resources_that_a_former_release_adds_during_an_update_are_merged() -> None:
    row = Row()
    apply(
        row, task_event("RUNNING", metadata=metadata_with(*(resource(index, external_id="a") for index in range(MANY))))
    )
    closure = TaskExecutionClosure.FromString(row.closure or b"")
    closure.metadata.external_resources.extend([resource(1, phase="RUNNING"), resource(1, 1), resource(MANY)])
    row.closure = closure.SerializeToString()
    expected = [(0, 0), (1, 0), (1, 1), *((index, 0) for index in range(2, MANY + 1))]
    for _ in range(2):
        assert keys(row) == expected
        assert (resources(row)[1].external_id, resources(row)[1].phase) == ("a", TaskExecution.RUNNING)
        apply(row, task_event("RUNNING", version=row.version + 1, metadata=metadata_with(resource(5))))
        assert not TaskExecutionClosure.FromString(row.closure).metadata.external_resources


def test_metadata_is_in_the_whole_closure_once() -> None:
    row = Row()
    metadata = metadata_with(*map(resource, range(MANY)))
    metadata.generated_name = "g"
    apply(row, task_event("RUNNING", metadata=metadata))
    chunks = b"".join(row.chunks[number] for number in sorted(row.chunks))
    whole = whole_closure(row.closure or b"", chunks)
    assert whole.endswith(chunks)
    assert whole.count(b"\x0a\x01g") == 1
    assert row.whole_closure().metadata == metadata
