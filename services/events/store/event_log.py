"""SQL of the event log: one row for each batch, written and completed in bulk, read by lane."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.kit.db.database import Connection, Database

# The column `marks` has the fingerprints; its name is that of earlier releases.
_INSERT = """
INSERT INTO event_log (received_at, batch_id, lane, marks, payload, verdicts)
SELECT * FROM unnest(%(received)b::timestamptz[], %(ids)b::text[], %(lanes)b::int2[], %(marks)b::bytea[],
                     %(payloads)b::bytea[], %(verdicts)b::bytea[])
ON CONFLICT (received_at, batch_id) DO NOTHING
"""

_ADD_VERDICTS = """
UPDATE event_log l SET verdicts = u.verdicts
FROM unnest(%(received)b::timestamptz[], %(ids)b::text[], %(verdicts)b::bytea[]) AS u (received_at, batch_id, verdicts)
WHERE l.received_at = u.received_at AND l.batch_id = u.batch_id AND l.verdicts IS NULL
"""

_WITHOUT_VERDICTS = """
SELECT received_at, batch_id FROM event_log
WHERE verdicts IS NULL AND received_at >= %(since)s ORDER BY received_at LIMIT %(limit)s
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
    verdicts: bytes | None  # framed; None until they are known, empty when there never will be any


async def insert(connection: Connection, batches: Sequence[LoggedBatch]) -> int:
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


async def add_verdicts(connection: Connection, verdicts: Sequence[tuple[datetime, str, bytes]]) -> int:
    """Add verdicts to batches that were written without them.

    Args:
        connection: Of the transaction.
        verdicts: The time, id and framed verdicts of each batch.

    Returns:
        The number of batches that had no verdicts.
    """
    rows = sorted(verdicts)
    parameters = {
        "received": [row[0] for row in rows],
        "ids": [row[1] for row in rows],
        "verdicts": [row[2] for row in rows],
    }
    return (await connection.execute(_ADD_VERDICTS, parameters)).rowcount


async def batches_without_verdicts(connection: Connection, since: datetime, limit: int) -> dict[str, datetime]:
    """Return the ids and times of the oldest batches received from `since` on that have no verdicts."""
    cursor = await connection.execute(_WITHOUT_VERDICTS, {"since": since, "limit": limit})
    return {identifier: received_at for received_at, identifier in await cursor.fetchall()}


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
