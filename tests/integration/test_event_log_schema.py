"""The migrations of the events service make the tables that its code declares."""

import asyncio
from datetime import date

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.events.store.log_days import make_days
from services.events.store.tables import metadata
from services.kit.db import Database
from services.kit.migrations import migrate
from tests.support.event_log import MIGRATIONS
from tests.support.parts import Parts


@pytest.fixture(scope="module")
async def database(parts: Parts) -> str:
    url = parts.new_database("events_schema")
    await asyncio.to_thread(migrate, url, MIGRATIONS)
    return url


def test_migrations_make_the_declared_tables(database: str) -> None:
    engine = sqlalchemy.create_engine(database.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert [difference for difference in differences if "alembic_version" not in str(difference)] == []


async def test_payloads_are_stored_as_they_are(database: str) -> None:
    """Compressing them would cost more than the rest of the insert."""
    db = await Database.open(database)
    await make_days(db, [date(2026, 11, 24)])
    await db.close()
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT attstorage FROM pg_attribute WHERE attrelid = 'event_log_2026_11_24'::regclass"
            " AND attname = 'payload'"
        ).fetchall()
    assert rows == [("e",)]
