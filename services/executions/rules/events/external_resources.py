"""External resources of a task attempt, above all the subtasks of a map task (events.md#task-metadata-merge).

An event of a map task reports a few subtasks out of thousands (engine.md#map-tasks). While a task has few resources
they stay in its closure's metadata. Many are stored in rows of their own, in chunks of neighbouring indexes, so an
event reads and writes only the chunks of its resources. All attempts of an index are in one chunk. A chunk is a
serialized TaskExecutionMetadata that contains only external resources, ordered by (index, attempt): concatenated chunks
are again such a message.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.event.event_pb2 import ExternalResourceInfo, TaskExecutionEvent, TaskExecutionMetadata

from services.contracts.phases import TASK_TERMINAL
from services.executions.rules.events.logs import FILTERING, PENDING
from services.executions.rules.events.state import ResourceChunks, TaskState
from services.executions.rules.events.task_metadata import (
    filter_resource_logs,
    merge_description,
    merge_metadata,
    merge_resources,
)
from services.executions.rules.events.verdicts import check_growth, check_parts_growth
from services.kit.protobuf.wire import message_field

# Measured with events that report 20 neighbours: 4 need more rows, 32 with their logs exceed a row of PostgreSQL (2 KB,
# compressed), and in between it hardly matters; with 8 there is space for several logs of each subtask.
CHUNK_INDEXES = 8
# As many as fit one chunk stay in the closure: most tasks have one external resource or none, and rows of their own
# would cost two statements for each batch.
INLINE_RESOURCES = CHUNK_INDEXES
# Chunks of a task that are read at once when its phase changes; the logs of more are not filtered. 1,000 subtasks with
# a log each have 200 KB. A MiB can be 250,000 logs, which take a tenth of a second.
MOST_PENDING_CHUNK_BYTES = 1024 * 1024
MOST_ENDING_CHUNK_BYTES = 4 * 1024 * 1024
# Chunks of this size have neither too many bytes nor too many parts.
_MOST_UNCHECKED_BYTES = 32 * 1024
_CHUNK = "external resources of neighbouring indexes of the task execution"


def chunks_needed(stored: TaskState, events: Iterable[TaskExecutionEvent]) -> set[int] | None:
    """Return the numbers of the chunks that the fold of `events` needs and `stored` lacks, None for all chunks.

    All are needed when the task may enter a phase that filters the logs of every resource, and when the closure
    contains resources although there are chunks (see `_move_to_chunks`).
    """
    if stored.chunks and stored.chunks.whole:
        return set()
    if stored.closure.metadata.external_resources or _may_filter({event.phase for event in events}, stored):
        return None
    numbers = chunks_changed(stored, events)
    return numbers - stored.chunks.data.keys() if stored.chunks else numbers


def chunks_changed(stored: TaskState, events: Iterable[TaskExecutionEvent]) -> set[int]:
    """Return the numbers of the chunks to which `events` and the closure of `stored` contribute resources."""
    sources = (stored.closure.metadata, *(event.metadata for event in events))
    return {resource.index // CHUNK_INDEXES for source in sources for resource in source.external_resources}


def most_chunk_bytes(events: Iterable[TaskExecutionEvent]) -> int:
    """Return the size of a task's chunks up to which all are read for a change of its phase, else only the needed ones.

    A task ends once, but may become pending with every event.
    """
    ends = any(event.phase in TASK_TERMINAL for event in events)
    return MOST_ENDING_CHUNK_BYTES if ends else MOST_PENDING_CHUNK_BYTES


def _may_filter(phases: set[int], stored: TaskState) -> bool:
    """Return whether events of `phases` may change the phase to one in which logs are dropped, also back to it."""
    return phases != {stored.closure.phase} and not FILTERING.isdisjoint(phases)


def with_chunks(stored: TaskState, numbers: Iterable[int] | None, chunks: Mapping[int, bytes]) -> TaskState:
    """Return `stored` with chunks that were read.

    Args:
        stored: The attempt.
        numbers: The chunks that were read; None for all.
        chunks: Those that exist, by number; the others are empty.
    """
    known = stored.chunks.data if stored.chunks else {}
    data = {**known, **dict.fromkeys(numbers or (), b""), **chunks}
    return replace(stored, chunks=ResourceChunks(data, whole=numbers is None))


def fold_resources(
    stored: TaskState, closure: TaskExecutionClosure, event: TaskExecutionEvent, *, changed: bool
) -> ResourceChunks | None:
    """Merge the metadata of `event` into `closure`, a copy of the stored one, and return the chunks after it.

    The logs of every resource are filtered when the task's phase has `changed` (events.md#log-filter); those in chunks
    only as far as the chunks were read. Most phases drop none.
    """
    changed = changed and event.phase in FILTERING
    if stored.chunks is None:
        if event.HasField("metadata"):
            merge_metadata(closure.metadata, event.metadata, present=stored.closure.HasField("metadata"))
        if changed and closure.HasField("metadata"):
            filter_resource_logs(closure.metadata, event.phase)
        return split_resources(closure, event.phase)
    chunks = _move_to_chunks(stored.chunks, closure)
    if event.HasField("metadata"):
        merge_description(closure.metadata, event.metadata)
    folded = _fold_chunks(chunks, event.metadata.external_resources, event.phase if changed else None)
    _check_chunks(chunks, folded, event.phase)
    return folded


def split_resources(closure: TaskExecutionClosure, phase: int) -> ResourceChunks | None:
    """Move the resources from `closure` to chunks when they are too many to stay; return None when they stay.

    Raises:
        ResourceExhausted: A chunk is too large, and `phase`, that of the event, is not terminal.
    """
    resources = closure.metadata.external_resources
    if len(resources) <= INLINE_RESOURCES:
        return None
    chunks = {number: _serialized(chunk) for number, chunk in _by_chunk(resources).items()}
    del resources[:]
    split = ResourceChunks(chunks, frozenset(chunks), whole=True)
    _check_chunks(ResourceChunks({}), split, phase)
    return split


def whole_closure(closure: bytes, resources: bytes | None) -> bytes:
    """Return the serialized `closure` with `resources`, all its chunks concatenated, None when it has no chunks."""
    if resources is None:
        return closure
    parsed = TaskExecutionClosure.FromString(closure)
    metadata = parsed.metadata
    if metadata.external_resources:
        merged = TaskExecutionMetadata.FromString(resources)
        merge_resources(merged, metadata.external_resources)
        resources = merged.SerializeToString()
        del metadata.external_resources[:]
    description = metadata.SerializeToString()
    parsed.ClearField("metadata")
    field = TaskExecutionClosure.METADATA_FIELD_NUMBER
    return parsed.SerializeToString() + message_field(field, description + resources)


def _move_to_chunks(chunks: ResourceChunks, closure: TaskExecutionClosure) -> ResourceChunks:
    """Move resources from the closure to the chunks: in a rolling update a release without chunks stores them there."""
    resources = closure.metadata.external_resources
    if not resources:
        return chunks
    moved = _fold_chunks(chunks, resources, None)
    del resources[:]
    return moved


def _check_chunks(stored: ResourceChunks, folded: ResourceChunks, phase: int) -> None:
    """Raise ResourceExhausted if a chunk has become too large: all attempts of an index are in one.

    As with closures, the end of a task is always accepted.
    """
    if phase in TASK_TERMINAL:
        return
    for number in folded.unsaved:
        data, before = folded.data[number], stored.data.get(number, b"")
        if len(data) > _MOST_UNCHECKED_BYTES and data is not before:
            old, new = map(TaskExecutionMetadata.FromString, (before, data))
            check_growth(_CHUNK, len(data), old)
            check_parts_growth(_CHUNK, len(data), new, old)


def _fold_chunks(
    chunks: ResourceChunks, resources: Sequence[ExternalResourceInfo], new_phase: int | None
) -> ResourceChunks:
    groups = _by_chunk(resources)
    pending = chunks.pending - groups.keys()
    numbers = set(groups)
    if new_phase is not None:
        numbers |= chunks.data.keys()
        if new_phase in PENDING:
            numbers -= pending
            pending |= numbers
    folded: dict[int, bytes] = {}
    for number in numbers:
        chunk = TaskExecutionMetadata.FromString(chunks.data.get(number, b""))
        merge_resources(chunk, groups.get(number, ()))
        if new_phase is not None:
            filter_resource_logs(chunk, new_phase)
        data = chunk.SerializeToString()
        if data != chunks.data.get(number):
            folded[number] = data
    return replace(chunks, data={**chunks.data, **folded}, unsaved=chunks.unsaved | folded.keys(), pending=pending)


def _by_chunk(resources: Iterable[ExternalResourceInfo]) -> dict[int, list[ExternalResourceInfo]]:
    groups: dict[int, list[ExternalResourceInfo]] = {}
    for resource in resources:
        groups.setdefault(resource.index // CHUNK_INDEXES, []).append(resource)
    return groups


def _serialized(resources: Iterable[ExternalResourceInfo]) -> bytes:
    return TaskExecutionMetadata(external_resources=resources).SerializeToString()
