"""External resources of a task attempt, the subtasks of a map task above all (events.md 4.9, 6.4).

An event of a map task tells of a few subtasks out of thousands. While a task has few resources they stay in its
closure's metadata; many are kept beside the closure, in chunks of neighbouring indexes, so that an event reads and
writes only the chunks it touches. All attempts of an index are in one chunk. A chunk is a serialized
TaskExecutionMetadata with nothing but external resources in it, ordered by (index, attempt): chunks one after the other
are again such a message.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.event.event_pb2 import ExternalResourceInfo, TaskExecutionEvent, TaskExecutionMetadata

from services.executions.rules.events.state import ResourceChunks, TaskState
from services.executions.rules.events.task_metadata import (
    filter_resource_logs,
    merge_description,
    merge_metadata,
    merge_resources,
)
from services.kit.protobuf.wire import message_field

# Measured with events that tell of 20 neighbours: 4 are more rows to touch, 32 with their logs outgrow a row of
# PostgreSQL (2 KB, compressed), and in between it hardly matters; 8 leave room for several logs a subtask.
CHUNK_INDEXES = 8
# What would fill one chunk stays in the closure: most tasks have one external resource or none, and rows of their own
# would cost them two statements a batch.
INLINE_RESOURCES = CHUNK_INDEXES


def chunks_needed(stored: TaskState, events: Iterable[TaskExecutionEvent]) -> set[int] | None:
    """Return which chunks the fold of `events` needs beyond those that `stored` holds, None for all that there are.

    It needs all when the task's phase may change, which filters the logs of every resource, and when the closure holds
    resources although there are chunks (see `_gather`).
    """
    if stored.chunks and stored.chunks.whole:
        return set()
    if stored.closure.metadata.external_resources or any(event.phase != stored.closure.phase for event in events):
        return None
    told = {resource.index // CHUNK_INDEXES for event in events for resource in event.metadata.external_resources}
    return told - stored.chunks.data.keys() if stored.chunks else told


def with_chunks(stored: TaskState, numbers: Iterable[int] | None, found: Mapping[int, bytes]) -> TaskState:
    """Return `stored` with the chunks `found` when `numbers` (or None, all) were looked for; others are empty."""
    known = stored.chunks.data if stored.chunks else {}
    data = {**known, **dict.fromkeys(numbers or (), b""), **found}
    return replace(stored, chunks=ResourceChunks(data, whole=numbers is None))


def fold_resources(
    stored: TaskState, closure: TaskExecutionClosure, event: TaskExecutionEvent, *, changed: bool
) -> ResourceChunks | None:
    """Merge the metadata of `event` into `closure`, a copy of the stored one; answers the chunks after it.

    The logs of every resource are filtered when the task's phase has `changed`.
    """
    if stored.chunks is None:
        if event.HasField("metadata"):
            merge_metadata(closure.metadata, event.metadata, present=stored.closure.HasField("metadata"))
        if changed and closure.HasField("metadata"):
            filter_resource_logs(closure.metadata, event.phase)
        return split_resources(closure)
    chunks = _gather(stored.chunks, closure)
    if event.HasField("metadata"):
        merge_description(closure.metadata, event.metadata)
    return _fold_chunks(chunks, event.metadata.external_resources, event.phase if changed else None)


def split_resources(closure: TaskExecutionClosure) -> ResourceChunks | None:
    """Take the resources out of `closure` when they are too many to stay; None when they stay."""
    resources = closure.metadata.external_resources
    if len(resources) <= INLINE_RESOURCES:
        return None
    chunks = {number: _serialized(found) for number, found in _by_chunk(resources).items()}
    del resources[:]
    return ResourceChunks(chunks, frozenset(chunks), whole=True)


def whole_closure(closure: bytes, resources: bytes | None) -> bytes:
    """Return the serialized `closure` with `resources`, all its chunks one after the other; None when it has none."""
    if resources is None:
        return closure
    parsed = TaskExecutionClosure.FromString(closure)
    metadata = parsed.metadata
    if metadata.external_resources:
        kept = TaskExecutionMetadata.FromString(resources)
        merge_resources(kept, metadata.external_resources)
        resources = kept.SerializeToString()
        del metadata.external_resources[:]
    described = metadata.SerializeToString()
    parsed.ClearField("metadata")
    field = TaskExecutionClosure.METADATA_FIELD_NUMBER
    return parsed.SerializeToString() + message_field(field, described + resources)


def _gather(chunks: ResourceChunks, closure: TaskExecutionClosure) -> ResourceChunks:
    """Move what the closure holds into the chunks: a release that knows no chunks put it there, in a rolling update."""
    resources = closure.metadata.external_resources
    if not resources:
        return chunks
    gathered = _fold_chunks(chunks, resources, None)
    del resources[:]
    return gathered


def _fold_chunks(chunks: ResourceChunks, told: Sequence[ExternalResourceInfo], new_phase: int | None) -> ResourceChunks:
    groups = _by_chunk(told)
    folded: dict[int, bytes] = {}
    for number in groups if new_phase is None else chunks.data.keys() | groups.keys():
        chunk = TaskExecutionMetadata.FromString(chunks.data.get(number, b""))
        merge_resources(chunk, groups.get(number, ()))
        if new_phase is not None:
            filter_resource_logs(chunk, new_phase)
        data = chunk.SerializeToString()
        if data != chunks.data.get(number):
            folded[number] = data
    return replace(chunks, data={**chunks.data, **folded}, unsaved=chunks.unsaved | folded.keys())


def _by_chunk(resources: Iterable[ExternalResourceInfo]) -> dict[int, list[ExternalResourceInfo]]:
    groups: dict[int, list[ExternalResourceInfo]] = {}
    for resource in resources:
        groups.setdefault(resource.index // CHUNK_INDEXES, []).append(resource)
    return groups


def _serialized(resources: Iterable[ExternalResourceInfo]) -> bytes:
    return TaskExecutionMetadata(external_resources=resources).SerializeToString()
