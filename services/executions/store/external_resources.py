"""The external_resources table: chunks of the external resources of tasks that have many, such as map tasks.

A batch reads the chunks that it may change and that are not cached in one statement, and writes the changed ones in
another. It runs neither when none of its tasks has chunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.executions.rules.events.batch import Rows, RowsNeeded
from services.executions.rules.events.external_resources import (
    chunks_changed,
    chunks_needed,
    most_chunk_bytes,
    with_chunks,
)
from services.executions.rules.events.state import TaskState
from services.kit.db.binary_parameters import bigints, byteas, ints, read_int
from services.kit.db.pipeline import Pipeline, Result, Statement

_READ = Statement("""
SELECT r.task_execution_id, r.chunk, r.resources
FROM unnest(%(ids)b::bigint[], %(numbers)b::int[]) AS k (id, number)
JOIN external_resources r ON r.task_execution_id = k.id AND r.chunk = k.number
""")

# All chunks of a task, or none if they are too large. The length of a large value is read without the value.
_READ_ALL = Statement("""
SELECT r.task_execution_id, r.chunk, r.resources
FROM unnest(%(ids)b::bigint[], %(most)b::bigint[]) AS k (id, most)
CROSS JOIN LATERAL (
    SELECT sum(octet_length(resources)) AS size FROM external_resources WHERE task_execution_id = k.id
) s
JOIN external_resources r ON r.task_execution_id = k.id AND s.size <= k.most
""")

_WRITE = Statement("""
INSERT INTO external_resources (task_execution_id, chunk, resources)
SELECT * FROM unnest(%(ids)b::bigint[], %(numbers)b::int[], %(chunks)b::bytea[])
ON CONFLICT (task_execution_id, chunk) DO UPDATE SET resources = excluded.resources
""")


@dataclass(frozen=True)
class ChunkQuery:
    """Chunks that were requested.

    Attributes:
        requested: By row id of a task, its state and the numbers of its chunks.
        result: The rows, once the pipeline has run.
        result_all: All chunks of those tasks that need all, and whose chunks are not too large.
    """

    requested: Mapping[int, tuple[TaskState, set[int]]]
    result: Result
    result_all: Result

    def add_to(self, rows: Rows) -> None:
        """Add the chunks to the tasks of `rows`, once the pipeline has run."""
        chunks, whole = _by_task(self.result), _by_task(self.result_all)
        for identifier, (state, numbers) in self.requested.items():
            rows.tasks[state.key] = (
                with_chunks(state, None, whole[identifier])
                if identifier in whole
                else with_chunks(state, numbers, chunks.get(identifier, {}))
            )


def query_chunks(pipeline: Pipeline, needed: RowsNeeded, rows: Rows) -> ChunkQuery | None:
    """Request the chunks that the batch may change and tasks of `rows` lack; return None when they lack none."""
    requested: dict[int, tuple[TaskState, set[int]]] = {}
    whole: dict[int, int] = {}  # by row id, the most bytes to read
    for key, events in needed.task_events.items():
        state = rows.tasks.get(key)
        if state is None or state.chunks is None:
            continue
        numbers = chunks_needed(state, events)
        if numbers is None:
            whole[rows.task_ids[key]] = most_chunk_bytes(events)
            numbers = chunks_changed(state, events) - state.chunks.data.keys()
        elif not numbers:
            continue
        requested[rows.task_ids[key]] = state, numbers
    if not requested:
        return None
    pairs = [(identifier, number) for identifier, (_state, numbers) in requested.items() for number in numbers]
    result = result_all = Result()
    if pairs:
        ids, every = zip(*pairs, strict=True)
        result = pipeline.put(_READ, {"ids": bigints(ids), "numbers": ints(every)})
    if whole:
        result_all = pipeline.put(_READ_ALL, {"ids": bigints(whole), "most": bigints(whole.values())})
    return ChunkQuery(requested, result, result_all)


def _by_task(result: Result) -> dict[int, dict[int, bytes]]:
    chunks: dict[int, dict[int, bytes]] = {}
    for row in result.rows:
        chunks.setdefault(read_int(row[0]), {})[read_int(row[1])] = row[2] or b""
    return chunks


def write_chunks(pipeline: Pipeline, tasks: Mapping[int, TaskState]) -> None:
    """Write the changed chunks of `tasks`, given by row id, when the pipeline runs."""
    changed = [
        (identifier, number, state.chunks.data[number])
        for identifier, state in tasks.items()
        if state.chunks is not None
        for number in state.chunks.unsaved
    ]
    if changed:
        ids, numbers, chunks = zip(*changed, strict=True)
        pipeline.put(_WRITE, {"ids": bigints(ids), "numbers": ints(numbers), "chunks": byteas(chunks)})
