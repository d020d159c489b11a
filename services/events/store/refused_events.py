"""SQL of the table refused_events."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import TupleRow

from services.contracts.event_batches import BatchedEvent, Kind, Refusal
from services.kit.db.database import Connection, Database

_INSERT = """
INSERT INTO refused_events (batch_id, position, kind, code, message, status, event, by_reference)
VALUES (%(batch_id)s, %(position)s, %(kind)s, %(code)s, %(message)s, %(status)b, %(event)b, %(by_reference)s)
ON CONFLICT (batch_id, position) DO NOTHING
"""

_COLUMNS = "SELECT id, created_at, batch_id, position, kind, status, event, by_reference FROM refused_events"
_PAGE = f"{_COLUMNS} WHERE id > %(after)s AND created_at >= %(since)s ORDER BY id LIMIT %(limit)s"
_BY_ID = f"{_COLUMNS} WHERE id = ANY(%(ids)s) ORDER BY id"
# Rows that one statement reads; each may contain an event of some hundred KiB.
_PAGE_ROWS = 500


@dataclass(frozen=True)
class RefusedEvent:
    """A row of refused_events."""

    id: int
    refused_at: datetime
    batch_id: str
    position: int
    event: BatchedEvent
    status: bytes  # serialized google.rpc.Status


async def insert(connection: Connection, refused: Refusal) -> None:
    """Store `refused` unless it is stored already."""
    await connection.execute(
        _INSERT,
        {
            "batch_id": refused.batch_id,
            "position": refused.position,
            "kind": refused.event.kind.name,
            "code": refused.status.code,
            # The only character that PostgreSQL's text cannot store.
            "message": refused.status.message.replace("\x00", "\N{SYMBOL FOR NULL}"),
            "status": refused.status.SerializeToString(),
            "event": refused.event.body,
            "by_reference": refused.event.by_reference,
        },
    )


async def refused_since(db: Database, since: datetime) -> AsyncIterator[RefusedEvent]:
    """Yield all events that were refused since `since`, oldest first."""
    after = 0
    while True:
        async with db.read() as connection:
            page = {"after": after, "since": since, "limit": _PAGE_ROWS}
            rows = await (await connection.execute(_PAGE, page, binary=True)).fetchall()
        for row in rows:
            yield _refused(row)
        if len(rows) < _PAGE_ROWS:
            return
        after = rows[-1][0]


async def refused_by_id(db: Database, ids: Sequence[int]) -> list[RefusedEvent]:
    """Return the refused events with these ids, oldest first; unknown ids are ignored."""
    async with db.read() as connection:
        rows = await (await connection.execute(_BY_ID, {"ids": list(ids)}, binary=True)).fetchall()
    return [_refused(row) for row in rows]


def _refused(row: TupleRow) -> RefusedEvent:
    identifier, refused_at, batch_id, position, kind, status, event, by_reference = row
    batched = BatchedEvent(Kind[kind], event, by_reference)
    return RefusedEvent(identifier, refused_at, batch_id, position, batched, status)
