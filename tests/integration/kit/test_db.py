"""The pool's promises against a real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from services.kit import db
from services.kit.db import Database
from services.kit.errors import Unavailable
from tests.support.parts import Parts

_LOCK = "SELECT pg_advisory_xact_lock(1)"


@pytest.fixture
async def database(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(db, "IDLE_TRANSACTION_TIMEOUT_MILLISECONDS", 200)
    opened = await Database.open(parts.new_database("test_db"))
    yield opened
    await opened.close()


async def test_who_stands_still_within_a_transaction_loses_its_locks_and_learns_that_nothing_was_done(
    database: Database,
) -> None:
    async with database.read() as connection:
        await connection.execute("CREATE TABLE written (number int)")

    async def stand_still() -> None:
        async with database.transaction() as still:
            await still.execute(_LOCK)
            await still.execute("INSERT INTO written VALUES (1)")
            async with database.transaction() as other:
                await other.execute(_LOCK)
            await still.execute("INSERT INTO written VALUES (2)")

    with pytest.raises(Unavailable):
        await stand_still()
    async with database.read() as connection:
        cursor = await connection.execute("SELECT count(*) FROM written")
        assert await cursor.fetchone() == (0,)
