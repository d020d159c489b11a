"""A lock of PostgreSQL that one process holds, for as long as its connection lives.

When the process dies, or its connection does, another process that waits has the lock at once. Waiting costs nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import psycopg

from services.kit.errors import Unavailable

log = logging.getLogger(__name__)

# No limit applies to the wait for the lock.
_UNLIMITED = "SET statement_timeout = 0"
_LOCK = "SELECT pg_advisory_lock(%(key)s)"
# How long a lost connection may go unnoticed.
CHECK_SECONDS = 2.0


@contextlib.asynccontextmanager
async def session_lock(url: str, key: int) -> AsyncIterator["SessionLock"]:
    """Wait for the lock `key` and hold it until the block ends; raise Unavailable without the database."""
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    except psycopg.Error as error:
        raise Unavailable("the database cannot be reached") from error
    try:
        try:
            await connection.execute(_UNLIMITED)
            await connection.execute(_LOCK, {"key": key})
        except psycopg.Error as error:
            raise Unavailable("the database was lost while waiting for a lock") from error
        yield SessionLock(connection)
    finally:
        await connection.close()


class SessionLock:
    """A lock that is held."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self._connection = connection

    async def until_lost(self) -> None:
        """Return when the connection, and the lock with it, is lost."""
        with contextlib.suppress(psycopg.Error):
            while True:
                await asyncio.sleep(CHECK_SECONDS)
                await self._connection.execute("SELECT 1")
