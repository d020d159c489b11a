"""What this process remembers of a lane's rows between two batches, so that it need not read them again.

Rows of nodes and tasks are written by events only, and a lane's events only by whoever holds the lane's lock. So what
was written with the last batch is what is stored, as long as the lane still stands where that batch left it; the lane's
row, which is read under the lock, tells. Executions are changed by users too: of them only the cluster is remembered,
which events alone change.

What has ended is forgotten at once, since hardly an event follows; of the rest a bounded number is kept, and a bounded
number of bytes; the oldest goes first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from services.contracts.phases import NODE_TERMINAL, TASK_TERMINAL, WORKFLOW_TERMINAL
from services.executions.rules.events.batch import Rows, RowsNeeded
from services.executions.rules.events.external_resources import chunks_needed
from services.executions.rules.events.state import ExecutionKey, NodeKey, NodeState, ResourceChunks, TaskKey, TaskState

# Rows of each kind in each lane: what a thousand executions have under way, half of them fan-outs of a hundred nodes.
# With 2 KB for a node and 3 for an attempt that is a quarter of a gigabyte at worst.
MOST_ROWS = 50_000
# Tasks with chunks among them, and bytes of one's chunks: 1,000 subtasks with a log each have 200 KB, so fifty
# megabytes at worst.
MOST_CHUNKED = 200
MOST_CHUNK_BYTES = 256 * 1024
# Nodes and attempts of each lane together, serialized; in memory they take up to three times as much. Whoever sends
# events decides how large one is, and need not ever end it.
MOST_BYTES = 96 * 1024 * 1024
# An execution's cluster is named by an event, too.
_MOST_CLUSTER_CHARACTERS = 255


@dataclass
class RowCache:
    """Rows of one lane, which its batches are folded over.

    `left` is where the last batch left the lane, None when nothing is known.
    """

    left: object = None
    rows: Rows = field(default_factory=Rows)
    _chunked: dict[TaskKey, None] = field(default_factory=dict)
    _sizes: dict[NodeKey | TaskKey, int] = field(default_factory=dict)
    _bytes: int = 0

    def lacking(self, need: RowsNeeded) -> RowsNeeded:
        """What of `need` is not remembered and left to read. Chunks of tasks that are remembered may be, too."""
        rows = self.rows
        return RowsNeeded(
            executions=need.executions,
            mentioned=need.mentioned - rows.clusters.keys(),
            nodes={key: full for key, full in need.nodes.items() if key not in (rows.nodes if full else rows.node_ids)},
            tasks={key: full for key, full in need.tasks.items() if key not in (rows.tasks if full else rows.task_ids)},
            task_events=need.task_events,
            counted=need.counted - rows.counts.keys(),
        )

    def suffices(self, need: RowsNeeded) -> bool:
        """Whether nothing of `need` is left to read."""
        lacking = self.lacking(need)
        if lacking.executions or lacking.mentioned or lacking.nodes or lacking.tasks or lacking.counted:
            return False
        return all(
            chunks_needed(state, events) == set()
            for key, events in need.task_events.items()
            if (state := self.rows.tasks[key]).chunks is not None
        )

    def keep(self, need: RowsNeeded, left: object) -> None:
        """Go on remembering after a batch that needed `need`, is committed and left the lane at `left`."""
        self.left = left
        rows = self.rows
        rows.free_node_ids.clear()
        rows.free_task_ids.clear()
        for key in need.executions:
            self._keep_execution(key)
        for key in need.children:  # their clusters change in lanes of their own
            rows.clusters.pop(key, None)
        for node in need.nodes:
            self._keep_node(node)
        for task in need.tasks:
            self._keep_task(task)
        _bound(rows.clusters, rows.clusters.pop)
        _bound(rows.counts, rows.counts.pop)
        _bound(rows.node_ids, self._forget_node)
        _bound(rows.task_ids, self._forget_task)
        while self._bytes > MOST_BYTES:
            oldest = next(iter(self._sizes))
            if isinstance(oldest, NodeKey):
                self._forget_node(oldest)
            else:
                self._forget_task(oldest)

    def forget(self) -> None:
        """Remember nothing: another replica may have written, or nobody knows what was."""
        self.left = None
        self.rows = Rows()
        self._chunked.clear()
        self._sizes.clear()
        self._bytes = 0

    def _keep_execution(self, key: ExecutionKey) -> None:
        state = self.rows.executions.pop(key, None)
        ended = state is None or state.closure.phase in WORKFLOW_TERMINAL
        if state is not None and not ended and len(state.cluster) <= _MOST_CLUSTER_CHARACTERS:
            self.rows.clusters[key] = state.cluster
        else:
            self.rows.clusters.pop(key, None)
            self.rows.counts.pop(key, None)

    def _keep_node(self, key: NodeKey) -> None:
        state = self.rows.nodes.get(key)
        if state is None:
            return
        if state.closure.phase in NODE_TERMINAL:
            self._forget_node(key)
        else:
            self._weigh(key, state)

    def _keep_task(self, key: TaskKey) -> None:
        state = self.rows.tasks.get(key)
        if state is None:
            return
        if state.closure.phase in TASK_TERMINAL:
            self._forget_task(key)
            return
        self._weigh(key, state)
        if state.chunks is not None:
            self._keep_chunks(key, state, state.chunks)

    def _keep_chunks(self, key: TaskKey, state: TaskState, chunks: ResourceChunks) -> None:
        self._chunked.pop(key, None)
        if sum(map(len, chunks.data.values())) > MOST_CHUNK_BYTES:
            self._forget_task(key)
            return
        self._chunked[key] = None
        if chunks.unsaved:  # saved with the batch
            self.rows.tasks[key] = replace(state, chunks=replace(chunks, unsaved=frozenset()))
        if len(self._chunked) > MOST_CHUNKED:
            self._forget_task(next(iter(self._chunked)))

    def _weigh(self, key: NodeKey | TaskKey, state: NodeState | TaskState) -> None:
        size = state.closure.ByteSize() + len(state.input_uri)
        self._bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def _forget_node(self, key: NodeKey) -> None:
        """Never forget a row's id without its state."""
        self._bytes -= self._sizes.pop(key, 0)
        self.rows.node_ids.pop(key, None)
        self.rows.nodes.pop(key, None)

    def _forget_task(self, key: TaskKey) -> None:
        self._bytes -= self._sizes.pop(key, 0)
        self._chunked.pop(key, None)
        self.rows.task_ids.pop(key, None)
        self.rows.tasks.pop(key, None)


def _bound(rows: dict[Any, Any], forget: Callable[[Any], object]) -> None:
    """Forget the oldest of too many."""
    for oldest in list(islice(rows, max(0, len(rows) - MOST_ROWS))):
        forget(oldest)
