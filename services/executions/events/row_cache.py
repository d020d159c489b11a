"""The row cache: rows of a lane that stay in memory between two batches instead of being read again.

Only events write rows of nodes and tasks (and the command `repair`, which holds the lanes and moves their cursors), and
only the replica that holds the lane's lock applies its events. So the rows written with the last batch are the stored
ones as long as the lane's cursor is the one of that batch; the cursor is read under the lock, or checked when it is
moved. Rows of executions are changed by users too: of such a row only the cluster is cached. After the first event only
events change it: the engine dispatcher stores it before the engine receives the execution.

Rows in a terminal phase are removed at once, since hardly an event follows. The number and the memory of the others are
bounded; the oldest are evicted first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from services.contracts.phases import NODE_TERMINAL, TASK_TERMINAL, WORKFLOW_TERMINAL
from services.executions.rules.events.batch import Rows, RowsNeeded
from services.executions.rules.events.external_resources import chunks_needed
from services.executions.rules.events.lane_cursor import LaneCursor
from services.executions.rules.events.state import ExecutionKey, NodeKey, ResourceChunks, TaskKey, TaskState

# Rows of each kind in each lane: those of a thousand running executions, half of them fan-outs of a hundred nodes.
# With 2 KB for a node and 3 for an attempt that is a quarter of a gigabyte at worst.
MOST_ROWS = 50_000
# Tasks with chunks among them, and bytes of a task's chunks: 1,000 subtasks with a log each have 200 KB, so fifty
# megabytes at worst.
MOST_CHUNKED = 200
MOST_CHUNK_BYTES = 256 * 1024
# Estimated memory of the nodes and attempts of each lane together. The senders of events decide how large a row is, and
# need not ever end it.
MOST_CACHE_BYTES = 256 * 1024 * 1024
# A larger row, serialized, is read again for each batch. Attempts have 1 KB.
MOST_ROW_BYTES = 64 * 1024
# Memory of a part in addition to its texts; serialized, an empty one has two bytes.
_PART_BYTES = 64
# Memory of a chunk in addition to its bytes.
_CHUNK_BYTES = 128
# Bytes that cannot be the first of a field with a length, as every part is one: their last three bits are not its type.
_NO_PART = bytes(byte for byte in range(256) if byte & 0b111 != 0b010)  # noqa: PLR2004  # see above
# An execution's cluster comes from an event, too.
_MOST_CLUSTER_CHARACTERS = 255


@dataclass
class RowCache:
    """Rows of one lane, over which its batches are folded.

    Attributes:
        cursor: The lane's cursor after the last batch; None when nothing is cached.
        rows: The cached rows. Batches are folded over them in place.
    """

    cursor: LaneCursor | None = None
    rows: Rows = field(default_factory=Rows)
    _chunked: dict[TaskKey, None] = field(default_factory=dict)
    _sizes: dict[NodeKey | TaskKey, int] = field(default_factory=dict)
    _bytes: int = 0

    def missing_rows(self, needed: RowsNeeded) -> RowsNeeded:
        """Return the rows in `needed` that are not cached. Chunks of cached tasks may be missing, too."""
        rows = self.rows
        nodes, tasks = needed.nodes.items(), needed.tasks.items()
        return RowsNeeded(
            executions=needed.executions,
            referenced=needed.referenced - rows.clusters.keys(),
            nodes={key: full for key, full in nodes if key not in (rows.nodes if full else rows.node_ids)},
            tasks={key: full for key, full in tasks if key not in (rows.tasks if full else rows.task_ids)},
            task_events=needed.task_events,
            counted=needed.counted - rows.counts.keys(),
        )

    def covers(self, needed: RowsNeeded) -> bool:
        """Return whether all rows in `needed` are cached, with the chunks that their events need."""
        missing = self.missing_rows(needed)
        if missing.executions or missing.referenced or missing.nodes or missing.tasks or missing.counted:
            return False
        return all(
            chunks_needed(state, events) == set()
            for key, events in needed.task_events.items()
            if (state := self.rows.tasks[key]).chunks is not None
        )

    def store(self, needed: RowsNeeded, cursor: LaneCursor) -> None:
        """Update the cache after a committed batch.

        Args:
            needed: The rows that the batch needed.
            cursor: The lane's cursor after it.
        """
        self.cursor = cursor
        rows = self.rows
        rows.free_node_ids.clear()
        rows.free_task_ids.clear()
        for key in needed.executions:
            self._store_execution(key)
        for key in needed.children:  # their clusters change in lanes of their own
            rows.clusters.pop(key, None)
        for node in needed.nodes:
            self._store_node(node)
        for task in needed.tasks:
            self._store_task(task)
        _evict_oldest(rows.clusters, rows.clusters.pop)
        _evict_oldest(rows.counts, rows.counts.pop)
        _evict_oldest(rows.node_ids, self._remove_node)
        _evict_oldest(rows.task_ids, self._remove_task)
        while self._bytes > MOST_CACHE_BYTES:
            oldest = next(iter(self._sizes))
            if isinstance(oldest, NodeKey):
                self._remove_node(oldest)
            else:
                self._remove_task(oldest)

    def clear(self) -> None:
        """Empty the cache: another replica may have written, or it is unknown whether this one has."""
        self.cursor = None
        self.rows = Rows()
        self._chunked.clear()
        self._sizes.clear()
        self._bytes = 0

    def _store_execution(self, key: ExecutionKey) -> None:
        state = self.rows.executions.pop(key, None)
        ended = state is None or state.closure.phase in WORKFLOW_TERMINAL
        if state is not None and not ended and len(state.cluster) <= _MOST_CLUSTER_CHARACTERS:
            self.rows.clusters[key] = state.cluster
        else:
            self.rows.clusters.pop(key, None)
            self.rows.counts.pop(key, None)

    def _store_node(self, key: NodeKey) -> None:
        state = self.rows.nodes.get(key)
        if state is None:
            return
        if state.closure.phase in NODE_TERMINAL:
            self._remove_node(key)
            return
        # Nodes that have not ended have no lists, so their memory is that of their texts.
        size = state.closure.ByteSize() + state.metadata.ByteSize() + len(state.input_uri)
        if size > MOST_ROW_BYTES:
            self._remove_node(key)
        else:
            self._measure(key, size)

    def _store_task(self, key: TaskKey) -> None:
        state = self.rows.tasks.get(key)
        if state is None:
            return
        if state.closure.phase in TASK_TERMINAL:
            self._remove_task(key)
            return
        closure = state.closure.SerializeToString()
        size = len(closure) + len(state.input_uri)
        if size > MOST_ROW_BYTES:
            self._remove_task(key)
            return
        # The bytes that may begin a part: all that do, and an eighth of the others.
        parts = len(closure.translate(None, _NO_PART))
        self._measure(key, size + _PART_BYTES * parts)
        if state.chunks is not None:
            self._store_chunks(key, state, state.chunks)

    def _store_chunks(self, key: TaskKey, state: TaskState, chunks: ResourceChunks) -> None:
        self._chunked.pop(key, None)
        if sum(map(len, chunks.data.values())) + _CHUNK_BYTES * len(chunks.data) > MOST_CHUNK_BYTES:
            self._remove_task(key)
            return
        self._chunked[key] = None
        if chunks.unsaved:  # saved with the batch
            self.rows.tasks[key] = replace(state, chunks=replace(chunks, unsaved=frozenset()))
        if len(self._chunked) > MOST_CHUNKED:
            self._remove_task(next(iter(self._chunked)))

    def _measure(self, key: NodeKey | TaskKey, size: int) -> None:
        self._bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def _remove_node(self, key: NodeKey) -> None:
        # The state goes with the id: a cached state without its id could not be written.
        self._bytes -= self._sizes.pop(key, 0)
        self.rows.node_ids.pop(key, None)
        self.rows.nodes.pop(key, None)

    def _remove_task(self, key: TaskKey) -> None:
        self._bytes -= self._sizes.pop(key, 0)
        self._chunked.pop(key, None)
        self.rows.task_ids.pop(key, None)
        self.rows.tasks.pop(key, None)


def _evict_oldest(rows: dict[Any, Any], remove: Callable[[Any], object]) -> None:
    """Remove the oldest rows beyond MOST_ROWS."""
    for oldest in list(islice(rows, max(0, len(rows) - MOST_ROWS))):
        remove(oldest)
