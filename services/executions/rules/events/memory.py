"""What this process remembers of a lane's rows between two batches, so that it need not read them again.

Rows of nodes and tasks are written by events only, and a lane's events only by whoever holds the lane's lock. So what
was written with the last batch is what is stored, as long as the lane still stands where that batch left it; the lane's
row, which is read under the lock, tells. Executions are changed by users too: of them only the cluster is remembered,
which events alone change.

What has ended is forgotten at once, since hardly an event follows; of the rest a bounded number is kept, the oldest
goes first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from services.contracts.phases import NODE_TERMINAL, TASK_TERMINAL, WORKFLOW_TERMINAL
from services.executions.rules.events.batch import Rows, Wanted
from services.executions.rules.events.phase_counts import PhaseCounts
from services.executions.rules.events.state import (
    ExecutionKey,
    NodeKey,
    NodeState,
    ResourceChunks,
    TaskKey,
    TaskState,
)

# Rows of each kind in each lane: some kilobytes each, so some tens of megabytes at worst.
MOST_ROWS = 4_000
# Tasks with chunks among them, and bytes of one's chunks: 1,000 subtasks with a log each have 200 KB, so fifty
# megabytes at worst.
MOST_CHUNKED = 200
MOST_CHUNK_BYTES = 256 * 1024

Key = TypeVar("Key")
Kept = TypeVar("Kept")


@dataclass
class LaneMemory:
    """Rows of one lane; `left` is where the last batch left the lane, None when nothing is known."""

    left: object = None
    clusters: dict[ExecutionKey, str] = field(default_factory=dict)
    counts: dict[ExecutionKey, PhaseCounts] = field(default_factory=dict)
    node_ids: dict[NodeKey, int] = field(default_factory=dict)
    nodes: dict[NodeKey, NodeState] = field(default_factory=dict)
    task_ids: dict[TaskKey, int] = field(default_factory=dict)
    tasks: dict[TaskKey, TaskState] = field(default_factory=dict)
    _chunked: dict[TaskKey, TaskState] = field(default_factory=dict)

    def recall(self, need: Wanted, rows: Rows) -> Wanted:
        """Put what is remembered of `need` into `rows`; answers what is left to read, which stands above it."""
        rows.clusters |= _found(self.clusters, need.mentioned)
        rows.counts |= _found(self.counts, need.counted)
        rows.node_ids |= _found(self.node_ids, need.nodes)
        rows.nodes |= _found(self.nodes, need.nodes)
        rows.task_ids |= _found(self.task_ids, need.tasks)
        rows.tasks |= _found(self.tasks, need.tasks)
        return Wanted(
            executions=need.executions,
            mentioned=need.mentioned - self.clusters.keys(),
            nodes={key: full for key, full in need.nodes.items() if key not in (self.nodes if full else self.node_ids)},
            tasks={key: full for key, full in need.tasks.items() if key not in (self.tasks if full else self.task_ids)},
            task_events=need.task_events,
            counted=need.counted - self.counts.keys(),
        )

    def keep(self, need: Wanted, rows: Rows, left: object) -> None:
        """Remember what `rows` hold of `need` after a batch that is committed and left the lane at `left`."""
        self.left = left
        # Children are mentioned too, but their clusters change in lanes of their own.
        self.clusters |= _found(rows.clusters, {node.execution for node in need.nodes})
        self.counts |= _found(rows.counts, need.counted)
        for key in need.executions:
            self._keep_execution(key, rows)
        for node in need.nodes:
            self._keep_node(node, rows)
        for task in need.tasks:
            if task.node in need.nodes:  # else the parent of a node, maybe of another lane, whose state moves on there
                self._keep_task(task, rows)
        _bound(self.clusters)
        _bound(self.counts)
        _bound(self.node_ids, self.nodes)
        _bound(self.task_ids, self.tasks)

    def forget(self) -> None:
        """Remember nothing: another replica may have written, or nobody knows what was."""
        self.left = None
        for kept in self._all():
            kept.clear()

    def _all(self) -> tuple[dict[Any, Any], ...]:
        return self.clusters, self.counts, self.node_ids, self.nodes, self.task_ids, self.tasks, self._chunked

    def _keep_execution(self, key: ExecutionKey, rows: Rows) -> None:
        state = rows.executions.get(key)
        self.clusters.pop(key, None)
        if state is not None and state.closure.phase not in WORKFLOW_TERMINAL:
            self.clusters[key] = state.cluster
        else:
            self.counts.pop(key, None)

    def _keep_node(self, key: NodeKey, rows: Rows) -> None:
        identifier, state = rows.node_ids.get(key), rows.nodes.get(key)
        self.node_ids.pop(key, None)
        self.nodes.pop(key, None)
        if identifier is None or (state is not None and state.closure.phase in NODE_TERMINAL):
            return
        self.node_ids[key] = identifier
        if state is not None:
            self.nodes[key] = state

    def _keep_task(self, key: TaskKey, rows: Rows) -> None:
        identifier, state = rows.task_ids.get(key), rows.tasks.get(key)
        self.task_ids.pop(key, None)
        self.tasks.pop(key, None)
        self._chunked.pop(key, None)
        if identifier is None or (state is not None and state.closure.phase in TASK_TERMINAL):
            return
        self.task_ids[key] = identifier
        if state is None:
            return
        if state.chunks is None:
            self.tasks[key] = state
        elif sum(map(len, state.chunks.data.values())) <= MOST_CHUNK_BYTES:
            # All that is unsaved was saved with the batch.
            self.tasks[key] = self._chunked[key] = replace(state, chunks=ResourceChunks(state.chunks.data))
            while len(self._chunked) > MOST_CHUNKED:
                oldest = next(iter(self._chunked))
                del self._chunked[oldest]
                self.tasks.pop(oldest, None)


def _bound(ids: dict[Any, Any], states: dict[Any, Any] | None = None) -> None:
    """Forget the oldest of too many; never a row's id without its state."""
    while len(ids) > MOST_ROWS:
        oldest = next(iter(ids))
        del ids[oldest]
        if states is not None:
            states.pop(oldest, None)


def _found(kept: Mapping[Key, Kept], keys: Iterable[Key]) -> dict[Key, Kept]:
    return {key: kept[key] for key in keys if key in kept}
