"""SQL of the event log: one row for each batch, written in bulk, read by lane."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.contracts.applied_batches import AppliedBatch
from services.kit.db.database import Connection, Database

# The column `marks` has the fingerprints; its name is that of earlier releases.
_INSERT = """
INSERT INTO event_log (received_at, batch_id, lane, marks, payload, verdicts)
SELECT * FROM unnest(%(received)b::timestamptz[], %(ids)b::text[], %(lanes)b::int2[], %(marks)b::bytea[],
                     %(payloads)b::bytea[], %(verdicts)b::bytea[])
ON CONFLICT (received_at, batch_id) DO NOTHING
"""

_OLDEST = "SELECT received_at FROM event_log ORDER BY received_at LIMIT 1"

# position() only narrows the search: it also finds a fingerprint across the border of two others.
_OF_LANE = """
SELECT received_at, batch_id, lane, marks, payload, verdicts FROM event_log
WHERE lane = %(lane)s AND received_at >= %(since)s AND received_at < %(until)s
  AND (marks IS NULL OR position(%(mark)b IN marks) > 0)
ORDER BY received_at, batch_id
"""

# One statement reads this much of a lane: at 500 single events a second 225,000 rows, well within the time limit of a
# statement.
_WINDOW = timedelta(hours=1)


@dataclass(frozen=True)
class LoggedBatch:
    """A row of the event log: a framed batch and its verdicts."""

    received_at: datetime
    batch_id: str
    lane: int
    fingerprints: bytes | None  # concatenated; None from a sender of a former release
    payload: bytes
    verdicts: bytes | None  # framed; empty when it cannot be read; None: a former release has missed them


async def insert(connection: Connection, batches: Sequence[AppliedBatch]) -> int:
    """Insert the `batches` that are not in the log yet and return their number. Their days must have partitions."""
    # Replicas may write the same batches at the same time: in one order they cannot deadlock.
    rows = sorted(batches, key=lambda batch: (batch.received_at, batch.batch_id))
    parameters = {
        "received": [row.received_at for row in rows],
        "ids": [row.batch_id for row in rows],
        "lanes": [row.lane for row in rows],
        "marks": [row.fingerprints for row in rows],
        "payloads": [row.payload for row in rows],
        "verdicts": [row.verdicts for row in rows],
    }
    return (await connection.execute(_INSERT, parameters)).rowcount


async def batches_of_execution(
    db: Database, lane: int, fingerprint: bytes, since: datetime | None
) -> AsyncIterator[LoggedBatch]:
    """Yield the batches of `lane` that may contain events of an execution, in the order in which they were received."""
    async with db.read() as connection:
        oldest = await (await connection.execute(_OLDEST)).fetchone()
        if oldest is None:
            return
        start = max(oldest[0], since) if since else oldest[0]
        while start <= datetime.now(UTC):
            window = {"lane": lane, "mark": fingerprint, "since": start, "until": start + _WINDOW}
            cursor = await connection.execute(_OF_LANE, window, binary=True)
            for row in await cursor.fetchall():
                yield LoggedBatch(*row)
            start += _WINDOW
