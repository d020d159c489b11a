"""The external_resources table: chunks of what a map task's events tell of its subtasks, beside its row.

A batch reads the chunks it may touch in one statement and writes those it changed in another, and neither when none of
its tasks has chunks.
"""

from collections.abc import Mapping
from dataclasses import replace

from services.executions.rules.events.batch import Rows, Wanted
from services.executions.rules.events.external_resources import chunks_needed
from services.executions.rules.events.state import ResourceChunks, TaskState
from services.kit.db import Connection

# Beyond the last chunk of any task: indexes have 32 bits, and several of them share a chunk.
_END = 2**31 - 1

_READ = """
SELECT r.task_execution_id, r.chunk, r.resources
FROM unnest(%(ids)b::bigint[], %(firsts)b::int[], %(lasts)b::int[]) AS k (id, first, last)
JOIN external_resources r ON r.task_execution_id = k.id AND r.chunk BETWEEN k.first AND k.last
"""

_WRITE = """
INSERT INTO external_resources (task_execution_id, chunk, resources)
SELECT * FROM unnest(%(ids)b::bigint[], %(numbers)b::int[], %(chunks)b::bytea[])
ON CONFLICT (task_execution_id, chunk) DO UPDATE SET resources = excluded.resources
"""


async def read_chunks(connection: Connection, need: Wanted, rows: Rows) -> None:
    """Give those tasks of `rows` that have chunks the ones that the batch may touch."""
    chunked = {
        rows.task_ids[key]: (state, events)
        for key, events in need.task_events.items()
        if (state := rows.tasks.get(key)) is not None and state.chunks is not None
    }
    if not chunked:
        return
    chunks: dict[int, dict[int, bytes]] = {identifier: {} for identifier in chunked}
    ranges = [
        (identifier, *bounds)
        for identifier, (state, events) in chunked.items()
        for bounds in _ranges(chunks_needed(state, events))
    ]
    if ranges:
        ids, firsts, lasts = map(list, zip(*ranges, strict=True))
        cursor = await connection.execute(_READ, {"ids": ids, "firsts": firsts, "lasts": lasts}, binary=True)
        for identifier, number, data in await cursor.fetchall():
            chunks[identifier][number] = data
    for identifier, (state, _) in chunked.items():
        rows.tasks[state.key] = replace(state, chunks=ResourceChunks(chunks[identifier]))


async def write_chunks(connection: Connection, tasks: Mapping[int, TaskState]) -> None:
    """Write the chunks that changed of `tasks`, by their row ids."""
    changed = [
        (identifier, number, state.chunks.data[number])
        for identifier, state in tasks.items()
        if state.chunks is not None
        for number in state.chunks.unsaved
    ]
    if changed:
        ids, numbers, chunks = map(list, zip(*changed, strict=True))
        await connection.execute(_WRITE, {"ids": ids, "numbers": numbers, "chunks": chunks})


def _ranges(numbers: set[int] | None) -> list[tuple[int, int]]:
    return [(0, _END)] if numbers is None else [(number, number) for number in numbers]
