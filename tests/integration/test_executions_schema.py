"""The migrations make the tables that the code declares."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import services.executions.store
from services.executions.store.tables import metadata
from services.kit.migrations import migrate
from tests.support.parts import Parts


@pytest.fixture(scope="module")
async def database(parts: Parts) -> str:
    url = parts.new_database("executions_schema")
    await asyncio.to_thread(migrate, url, Path(services.executions.store.__path__[0]) / "migrations")
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def test_migrations_make_the_declared_tables(database: str) -> None:
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert [difference for difference in differences if "alembic_version" not in str(difference)] == []
