"""Storage of the event log."""

from datetime import date

import psycopg
import pytest

from services.events.store.log_partitions import make_partitions
from services.kit.db.database import Database
from tests.support.parts import Parts


@pytest.fixture(scope="module")
def database(parts: Parts) -> str:
    return parts.migrated_database("events", "event_log_schema")


async def test_payloads_are_stored_without_compression(database: str) -> None:
    """Compression would cost more than the rest of the insert."""
    db = await Database.open(database)
    await make_partitions(db, [date(2026, 11, 24)])
    await db.close()
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT attstorage FROM pg_attribute WHERE attrelid = 'event_log_2026_11_24'::regclass"
            " AND attname = 'payload'"
        ).fetchall()
    assert rows == [("e",)]
