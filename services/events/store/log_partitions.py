"""SQL of the event log's partitions, one for each day (UTC), and of the deletion of refused events."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from services.events.store.locks import exclusive_transaction
from services.kit.db.database import Connection, Database

_PARTITIONS = sql.SQL("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event_log'::regclass")
_MAKE = sql.SQL("CREATE TABLE {} PARTITION OF event_log FOR VALUES FROM ({}) TO ({})")
_DROP = sql.SQL("DROP TABLE {}")
_DELETE_REFUSED = """
DELETE FROM refused_events
WHERE id IN (SELECT id FROM refused_events WHERE created_at < %(before)s ORDER BY created_at LIMIT %(limit)s)
"""
# Rows that one statement deletes: it stays far below the time limit of a statement.
_ROWS_AT_ONCE = 5000
_NAME = "event_log_%Y_%m_%d"


async def make_partitions(db: Database, days: Iterable[date]) -> None:
    """Create the partitions of `days` that are missing."""
    async with exclusive_transaction(db) as connection:
        existing = await _existing(connection)
        for day in sorted(set(days) - existing.keys()):
            name = sql.Identifier(day.strftime(_NAME))
            await connection.execute(_MAKE.format(name, _midnight(day), _midnight(day + timedelta(days=1))))


async def drop_partitions(db: Database, before: date) -> list[date]:
    """Drop the partitions of the days before `before` and return those days."""
    async with exclusive_transaction(db) as connection:
        old = sorted(day for day in await _existing(connection) if day < before)
        for day in old:
            await connection.execute(_DROP.format(sql.Identifier(day.strftime(_NAME))))
    return old


async def delete_refused(db: Database, before: datetime) -> int:
    """Delete events that were refused before `before` and return their number."""
    deleted = 0
    while True:
        async with db.autocommit() as connection:
            cursor = await connection.execute(_DELETE_REFUSED, {"before": before, "limit": _ROWS_AT_ONCE})
        deleted += cursor.rowcount
        if cursor.rowcount < _ROWS_AT_ONCE:
            return deleted


async def _existing(connection: Connection) -> dict[date, str]:
    names = [row[0] for row in await (await connection.execute(_PARTITIONS)).fetchall()]
    return {datetime.strptime(name, _NAME).replace(tzinfo=UTC).date(): name for name in names}


def _midnight(day: date) -> sql.Literal:
    return sql.Literal(f"{day.isoformat()} 00:00:00+00")
