"""SQL of the table applied_batches, from which the events service takes rows for its log."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.contracts.applied_batches import AppliedBatch
from services.kit.db.binary_parameters import bigint, timestamp
from services.kit.db.database import Database
from services.kit.db.pipeline import Pipeline, Statement

# The column `marks` has the fingerprints, as in the event log.
_INSERT = Statement("""
INSERT INTO applied_batches (lane, received_at, batch_id, marks, payload, verdicts)
VALUES (%(lane)b::bigint, %(received)b::timestamptz, %(id)b::text, %(marks)b::bytea, %(payload)b::bytea,
        %(verdicts)b::bytea)
""")

_DELETE = "DELETE FROM applied_batches WHERE id = ANY(%(ids)s)"

# The sizes are measured first, so that only the rows that fit are read; the oldest row is read however large it is.
_OLDEST = """
WITH oldest AS (
    SELECT id, sum(size) OVER (ORDER BY id) AS total
    FROM (SELECT id, octet_length(payload) + octet_length(verdicts) + COALESCE(octet_length(marks), 0) + %(extra)s
                     AS size
          FROM applied_batches ORDER BY id LIMIT %(rows)s) AS sizes
)
SELECT b.id, b.lane, b.received_at, b.batch_id, b.marks, b.payload, b.verdicts,
       b.id < (SELECT max(id) FROM applied_batches)
FROM applied_batches b JOIN oldest o ON o.id = b.id
WHERE o.total <= %(bytes)s OR o.id = (SELECT min(id) FROM oldest)
ORDER BY b.id
"""
# At most so many bytes of a row are neither payload nor verdicts nor fingerprints.
_EXTRA_BYTES = 300


@dataclass(frozen=True)
class OldestBatches:
    """The oldest rows, and whether there are more."""

    rows: Sequence[AppliedBatch]
    more: bool


def put_applied_batch(pipeline: Pipeline, batch: AppliedBatch) -> None:
    """Insert a batch when the pipeline runs, under a new id."""
    values = {
        "lane": bigint(batch.lane),
        "received": timestamp(batch.received_at),
        "id": batch.batch_id.encode(),
        "marks": batch.fingerprints,
        "payload": batch.payload,
        "verdicts": batch.verdicts,
    }
    pipeline.put(_INSERT, values)


def storable_id(batch_id: str, otherwise: str) -> str:
    """Return the id of a batch if it can be stored and shown; else `otherwise`."""
    return batch_id if batch_id and batch_id.isprintable() else otherwise


async def delete_logged(db: Database, ids: Sequence[int]) -> None:
    """Delete the rows with these ids."""
    if ids:
        async with db.autocommit() as connection:
            await connection.execute(_DELETE, {"ids": sorted(ids)})


async def oldest_batches(db: Database, most_rows: int, most_bytes: int) -> OldestBatches:
    """Return the oldest rows, one at least if there is one, otherwise at most `most_rows` of `most_bytes` together."""
    async with db.read() as connection:
        limits = {"rows": most_rows, "bytes": most_bytes, "extra": _EXTRA_BYTES}
        rows = await (await connection.execute(_OLDEST, limits, binary=True)).fetchall()
    batches = [AppliedBatch(*row[:-1]) for row in rows]
    return OldestBatches(batches, more=bool(rows and rows[-1][-1]))
