"""The external_resources table: chunks of the external resources of tasks that have many, such as map tasks.

A batch reads the chunks that it may change and that are not cached in one statement, and writes the changed ones in
another. It runs neither when none of its tasks has chunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.executions.rules.events.batch import Rows, RowsNeeded
from services.executions.rules.events.external_resources import chunks_needed, with_chunks
from services.executions.rules.events.state import TaskState
from services.kit.db.binary_parameters import bigints, byteas, ints, read_int
from services.kit.db.pipeline import Pipeline, Result, Statement

# Beyond the last chunk of any task: indexes have 32 bits, and several of them share a chunk.
_END = 2**31 - 1

_READ = Statement("""
SELECT r.task_execution_id, r.chunk, r.resources
FROM unnest(%(ids)b::bigint[], %(firsts)b::int[], %(lasts)b::int[]) AS k (id, first, last)
JOIN external_resources r ON r.task_execution_id = k.id AND r.chunk BETWEEN k.first AND k.last
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
        requested: By row id of a task, its state and the numbers of its chunks, None for all.
        result: The rows, once the pipeline has run.
    """

    requested: Mapping[int, tuple[TaskState, set[int] | None]]
    result: Result

    def add_to(self, rows: Rows) -> None:
        """Add the chunks to the tasks of `rows`, once the pipeline has run."""
        chunks: dict[int, dict[int, bytes]] = {identifier: {} for identifier in self.requested}
        for row in self.result.rows:
            chunks[read_int(row[0])][read_int(row[1])] = row[2] or b""
        for identifier, (state, numbers) in self.requested.items():
            rows.tasks[state.key] = with_chunks(state, numbers, chunks[identifier])


def query_chunks(pipeline: Pipeline, needed: RowsNeeded, rows: Rows) -> ChunkQuery | None:
    """Request the chunks that the batch may change and tasks of `rows` lack; return None when they lack none."""
    requested: dict[int, tuple[TaskState, set[int] | None]] = {}
    ranges: list[tuple[int, int, int]] = []
    for key, events in needed.task_events.items():
        state = rows.tasks.get(key)
        if state is None or state.chunks is None:
            continue
        numbers = chunks_needed(state, events)
        bounds = [(0, _END)] if numbers is None else [(number, number) for number in numbers]
        if bounds:
            identifier = rows.task_ids[key]
            requested[identifier] = state, numbers
            ranges += [(identifier, *bound) for bound in bounds]
    if not ranges:
        return None
    ids, firsts, lasts = zip(*ranges, strict=True)
    return ChunkQuery(
        requested, pipeline.put(_READ, {"ids": bigints(ids), "firsts": ints(firsts), "lasts": ints(lasts)})
    )


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
