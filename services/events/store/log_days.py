"""SQL of the event log's partitions, one a day (UTC), and of what else is kept for as many days."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from services.events.store.locks import alone
from services.kit.db.database import Connection, Database

_DAYS = sql.SQL("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event_log'::regclass")
_MAKE = sql.SQL("CREATE TABLE {} PARTITION OF event_log FOR VALUES FROM ({}) TO ({})")
_DROP = sql.SQL("DROP TABLE {}")
_FORGET_REFUSED = """
DELETE FROM refused_events
WHERE id IN (SELECT id FROM refused_events WHERE created_at < %(before)s ORDER BY created_at LIMIT %(limit)s)
"""
# One statement deletes this many: far below a statement's time.
_AT_ONCE = 5000
_NAME = "event_log_%Y_%m_%d"


async def make_days(db: Database, days: Iterable[date]) -> None:
    """Make the partitions of `days` that are missing."""
    async with alone(db) as connection:
        there = await _made(connection)
        for day in sorted(set(days) - there.keys()):
            name = sql.Identifier(day.strftime(_NAME))
            await connection.execute(_MAKE.format(name, _midnight(day), _midnight(day + timedelta(days=1))))


async def drop_days(db: Database, before: date) -> list[date]:
    """Drop the partitions of the days before `before`; answers which."""
    async with alone(db) as connection:
        old = sorted(day for day in await _made(connection) if day < before)
        for day in old:
            await connection.execute(_DROP.format(sql.Identifier(day.strftime(_NAME))))
    return old


async def forget_refused(db: Database, before: datetime) -> int:
    """Delete events that were refused before `before`; answers how many."""
    forgotten = 0
    while True:
        async with db.read() as connection:
            cursor = await connection.execute(_FORGET_REFUSED, {"before": before, "limit": _AT_ONCE})
        forgotten += cursor.rowcount
        if cursor.rowcount < _AT_ONCE:
            return forgotten


async def _made(connection: Connection) -> dict[date, str]:
    names = [row[0] for row in await (await connection.execute(_DAYS)).fetchall()]
    return {datetime.strptime(name, _NAME).replace(tzinfo=UTC).date(): name for name in names}


def _midnight(day: date) -> sql.Literal:
    return sql.Literal(f"{day.isoformat()} 00:00:00+00")
