"""A lock for work that only one replica may do at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.kit.db.database import Connection, Database

_LOCK = "SELECT pg_advisory_xact_lock(%(key)s)"
_KEY = 0x6576656E74


@asynccontextmanager
async def exclusive_transaction(db: Database) -> AsyncIterator[Connection]:
    """Open a transaction after those of other replicas have ended; raise DeadlineExceeded when they take too long."""
    async with db.transaction() as connection:
        await connection.execute(_LOCK, {"key": _KEY})
        yield connection
