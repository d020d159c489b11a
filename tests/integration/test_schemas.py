"""The migrations of each service create the tables that its code declares."""

from importlib import import_module

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.kit.db.database import Database
from services.kit.db.migrations import check_schema, migrate
from services.kit.errors import FailedPrecondition
from tests.support.parts import Parts, migrations_of

NEWER = "9999"


@pytest.mark.parametrize("service", ["events", "executions", "projects", "registry"])
def test_migrations_create_the_declared_tables(service: str, parts: Parts) -> None:
    metadata = import_module(f"services.{service}.store.tables").metadata
    url = parts.migrated_database(service, f"{service}_schema")
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert [difference for difference in differences if "alembic_version" not in str(difference)] == []


async def test_release_runs_on_the_schema_of_a_newer_release_and_leaves_it(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    url, folder = parts.migrated_database("projects", "newer_schema"), migrations_of("projects")
    _set_version(url, NEWER)
    assert migrate(url, folder) == NEWER
    db = await Database.open(url, max_size=1)
    try:
        await check_schema(db, folder, "projects")
    finally:
        await db.close()
    assert "a newer release has upgraded the database" in caplog.text


async def test_release_refuses_the_schema_of_an_older_release(parts: Parts) -> None:
    url, folder = parts.migrated_database("projects", "older_schema"), migrations_of("projects")
    _set_version(url, "0001")
    db = await Database.open(url, max_size=1)
    try:
        with pytest.raises(FailedPrecondition, match=r"run 'python -m services\.projects migrate'"):
            await check_schema(db, folder, "projects")
    finally:
        await db.close()


def _set_version(url: str, version: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (version,))
