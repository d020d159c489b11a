"""What the commands open."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.executions.config import Settings
from services.kit.db import Database

# Somebody waits at a terminal.
_PATIENCE_SECONDS = 5.0
NOT_FOUND = 1
"""Exit status when there is no such execution."""


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The service's database, over one connection."""
    db = await Database.open(settings.database_url, max_size=1, patience=_PATIENCE_SECONDS)
    try:
        yield db
    finally:
        await db.close()
