"""A store of the state of executions in memory, which does the work of the applier and PostgreSQL around the fold.

Like the real one it reserves ids for missing rows and returns only the rows that are needed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.event.event_pb2 import TaskExecutionEvent

from services.executions.events.row_cache import RowCache
from services.executions.rules.events.batch import Changes, Event, Rows, RowsNeeded, fold_batch, rows_needed
from services.executions.rules.events.external_resources import chunks_needed, whole_closure, with_chunks
from services.executions.rules.events.lane_cursor import LaneCursor
from services.executions.rules.events.layout import ObjectLayout
from services.executions.rules.events.phase_counts import PhaseCounts
from services.executions.rules.events.state import (
    ExecutionKey,
    ExecutionState,
    NodeKey,
    ResourceChunks,
    TaskKey,
    TaskState,
)
from services.kit.errors import ServiceError
from tests.support.event_makers import LAYOUT, execution_state
from tests.support.event_model_checks import OK, Verdict
from tests.support.plain import Plain, plain


class Memory:
    """Rows of executions, nodes and tasks, and the objects that they name."""

    def __init__(
        self, cluster: str = "", executions: Iterable[ExecutionState] = (), layout: ObjectLayout = LAYOUT
    ) -> None:
        known = [*executions] or [execution_state(cluster=cluster)]
        self.rows = Rows(executions={state.key: state for state in known})
        self.objects: dict[str, bytes] = {}
        self._layout = layout
        self._last_id = 0

    def take(self, events: Sequence[Event | ServiceError]) -> Changes:
        """Fold a batch and store its changes."""
        changes = fold_batch(events, self.read(rows_needed(events)), self._layout)
        self.write(changes)
        return changes

    def read(self, needed: RowsNeeded) -> Rows:
        """Return the needed rows."""
        stored = self.rows
        return Rows(
            {
                key: state if needed.executions[key] else replace(state, spec=b"")
                for key, state in stored.executions.items()
                if key in needed.executions
            },
            {key: state.cluster for key, state in stored.executions.items() if key in needed.referenced},
            {key: state for key, state in stored.nodes.items() if needed.nodes.get(key)},
            {key: number for key, number in stored.node_ids.items() if key in needed.nodes},
            {
                key: _with_chunks(state, needed.task_events[key])
                for key, state in stored.tasks.items()
                if needed.tasks.get(key)
            },
            {key: number for key, number in stored.task_ids.items() if key in needed.tasks},
            [self._next() for key, state in needed.nodes.items() if state and key not in stored.node_ids],
            [self._next() for key, state in needed.tasks.items() if state and key not in stored.task_ids],
            {key: deepcopy(stored.counts.get(key, PhaseCounts())) for key in needed.counted},
        )

    def complete(self, needed: RowsNeeded, rows: Rows) -> None:
        """Add the chunks that cached tasks lack."""
        for key, events in needed.task_events.items():
            state, stored = rows.tasks.get(key), self.rows.tasks.get(key)
            if state and state.chunks and stored and stored.chunks:
                rows.tasks[key] = _completed(state, stored.chunks, events)

    def write(self, changes: Changes) -> None:
        """Store the changes of a batch."""
        stored = self.rows
        assert not changes.new_nodes.keys() & stored.node_ids.values()
        assert changes.nodes.keys() <= set(stored.node_ids.values())
        assert not changes.new_tasks.keys() & stored.task_ids.values()
        assert changes.tasks.keys() <= set(stored.task_ids.values())
        self.objects |= {offload.uri: offload.data for offload in changes.offloads}
        stored.counts |= deepcopy(changes.counts)
        for key, execution in changes.executions.items():
            stored.executions[key] = replace(execution, spec=execution.spec or stored.executions[key].spec)
        for number, node in (changes.new_nodes | changes.nodes).items():
            stored.nodes[node.key], stored.node_ids[node.key] = node, number
        for number, task in (changes.new_tasks | changes.tasks).items():
            stored.tasks[task.key], stored.task_ids[task.key] = _saved(stored.tasks.get(task.key), task), number

    def _next(self) -> int:
        self._last_id += 1
        return self._last_id

    def executions(self) -> dict[str, Plain]:
        """Return executions in the form of `tests.support.event_model`."""
        return {
            _text(key): {
                "cluster": state.cluster,
                "closure": plain(state.closure),
                "spec": plain(ExecutionSpec.FromString(state.spec)),
            }
            for key, state in self.rows.executions.items()
        }

    def nodes(self) -> dict[str, Plain]:
        """Return nodes in the form of the model, with the names of their parents."""
        nodes = _names(self.rows.node_ids)
        tasks = _names(self.rows.task_ids)
        return {
            _text(key): {
                "closure": plain(state.closure),
                "metadata": plain(state.metadata),
                "input_uri": state.input_uri,
                "parent": nodes.get(state.parent_id, ""),
                "parent_task": tasks.get(state.parent_task_id, ""),
                "dynamic": self._dynamic(state.dynamic_closure_uri),
                "event_version": state.event_version,
            }
            for key, state in self.rows.nodes.items()
        }

    def tasks(self) -> dict[str, Plain]:
        """Return attempts in the form of the model, with all external resources in their closures."""
        return {
            _text(key): {"closure": plain(_whole(state)), "input_uri": state.input_uri, "version": state.phase_version}
            for key, state in self.rows.tasks.items()
        }

    def recounted(self) -> dict[ExecutionKey, PhaseCounts]:
        """Count the nodes and tasks of each execution by phase."""
        counts: defaultdict[ExecutionKey, PhaseCounts] = defaultdict(PhaseCounts)
        for node, state in self.rows.nodes.items():
            counts[node.execution].count_node_transition(None, state.closure.phase)
        for task, attempt in self.rows.tasks.items():
            counts[task.node.execution].count_task_transition(None, attempt.closure.phase)
        return dict(counts)

    def data(self) -> dict[str, Plain]:
        """Return offloaded inputs and outputs, by URI."""
        return {uri: plain(LiteralMap.FromString(data)) for uri, data in self.objects.items() if "/dynamic/" not in uri}

    def _dynamic(self, uri: str) -> Plain:
        return plain(CompiledWorkflowClosure.FromString(self.objects[uri])) if uri else {}


@dataclass
class Replica:
    """A replica of the executions service over `store`, with a row cache for each lane."""

    store: Memory
    caches: defaultdict[str, RowCache] = field(default_factory=lambda: defaultdict(RowCache))

    def take(self, lane: str, events: Sequence[Event | ServiceError], cursors: dict[str, LaneCursor]) -> Changes:
        """Fold a batch of a lane and move its cursor; all replicas share `cursors`."""
        cache, needed = self.caches[lane], rows_needed(events)
        missing = cache.missing_rows(needed)
        if cache.cursor is not None and cache.cursor != cursors.get(lane):
            cache.clear()
            missing = needed
        self.store.complete(missing, cache.rows)
        cache.rows.add(self.store.read(missing))
        changes = fold_batch(events, cache.rows, self.store._layout)
        self.store.write(changes)
        sequence = cursors[lane].sequence + 1 if lane in cursors else 1
        cursors[lane] = LaneCursor(b"", sequence, None)
        cache.store(needed, cursors[lane])
        return changes


def verdict_of(error: ServiceError | None) -> Verdict:
    """Return the verdict of an event in the form of the model."""
    if error is None:
        return OK
    reasons = [plain(detail) for detail in error.details]
    return error.code.name, reasons[0] if reasons else {}


def _with_chunks(state: TaskState, events: Iterable[TaskExecutionEvent]) -> TaskState:
    """Return `state` as it is read for `events`: with the chunks of external resources that they need."""
    return (
        state if state.chunks is None else _completed(replace(state, chunks=ResourceChunks({})), state.chunks, events)
    )


def _completed(state: TaskState, stored: ResourceChunks, events: Iterable[TaskExecutionEvent]) -> TaskState:
    numbers = chunks_needed(state, events)
    chunks = {number: data for number, data in stored.data.items() if numbers is None or number in numbers}
    return with_chunks(state, numbers, chunks)


def _saved(before: TaskState | None, after: TaskState) -> TaskState:
    """Return `after` with all its chunks; those that no event changed are the rows of `before`."""
    if after.chunks is None:
        return after
    rows = dict(before.chunks.data) if before and before.chunks else {}
    changed = {number: after.chunks.data[number] for number in after.chunks.unsaved}
    return replace(after, chunks=ResourceChunks(rows | changed))


def _whole(state: TaskState) -> TaskExecutionClosure:
    if state.chunks is None:
        return state.closure
    chunks = b"".join(data for _, data in sorted(state.chunks.data.items()))
    return TaskExecutionClosure.FromString(whole_closure(state.closure.SerializeToString(), chunks))


def _names(ids: Mapping[Any, int]) -> dict[int | None, str]:
    return {number: _text(key) for key, number in ids.items()}


def _text(key: ExecutionKey | NodeKey | TaskKey) -> str:
    """Return the parts of a key as a path."""
    return "/".join(_text(part) if isinstance(part, tuple) else str(part) for part in key)
