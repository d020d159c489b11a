"""The table audit_log of a service: inserted in groups, read by time, deleted by age."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from services.kit.db.database import Connection, Database

_INSERT = """
INSERT INTO audit_log (at, method, subject, client, resource, address, code, message)
SELECT * FROM unnest(%(ats)b::timestamptz[], %(methods)b::text[], %(subjects)b::text[], %(clients)b::text[],
                     %(resources)b::text[], %(addresss)b::text[], %(codes)b::text[], %(messages)b::text[])
"""
# By time and not by id: replicas insert at the same time, and a record may have waited for the database.
_PAGE = """
SELECT id, at, method, subject, client, resource, address, code, message FROM audit_log
WHERE (at, id) > (%(at)s, %(id)s)
  AND (%(subject)s::text IS NULL OR subject = %(subject)s) AND (%(method)s::text IS NULL OR method = %(method)s)
ORDER BY at, id LIMIT %(limit)s
"""
_DELETE = """
DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE at < %(before)s ORDER BY at LIMIT %(limit)s)
"""
# Rows that one statement reads or deletes: it stays far below the time limit of a statement.
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True)
class AuditRecord:
    """One call."""

    at: datetime
    """When it came."""
    method: str
    """The name of the RPC."""
    subject: str
    """Who called; empty when unknown."""
    client: str
    """The OAuth client of the caller."""
    resource: str
    """What the call is about."""
    address: str
    """From where it came."""
    code: str
    """The name of its status code."""
    message: str
    """Of the refusal; empty when it succeeded."""


COLUMNS = tuple(field.name for field in fields(AuditRecord))


async def insert(connection: Connection, records: Sequence[AuditRecord]) -> None:
    """Store `records` by one statement."""
    await connection.execute(_INSERT, {f"{name}s": [getattr(each, name) for each in records] for name in COLUMNS})


async def records_since(
    db: Database, since: datetime, subject: str | None = None, method: str | None = None
) -> AsyncIterator[AuditRecord]:
    """Yield the records since `since`, oldest first; those of one subject or method if given."""
    page: dict[str, object] = {"at": since, "id": 0, "subject": subject, "method": method, "limit": _ROWS_AT_ONCE}
    while True:
        async with db.read() as connection:
            rows = await (await connection.execute(_PAGE, page)).fetchall()
        for row in rows:
            yield AuditRecord(*row[1:])
        if len(rows) < _ROWS_AT_ONCE:
            return
        page |= {"id": rows[-1][0], "at": rows[-1][1]}


async def delete_before(db: Database, before: datetime) -> int:
    """Delete the records of before `before` and return their number."""
    deleted = 0
    while True:
        async with db.autocommit() as connection:
            cursor = await connection.execute(_DELETE, {"before": before, "limit": _ROWS_AT_ONCE})
        deleted += cursor.rowcount
        if cursor.rowcount < _ROWS_AT_ONCE:
            return deleted
