"""The migrations of each service create the tables that its code declares."""

from importlib import import_module

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.support.parts import Parts


@pytest.mark.parametrize("service", ["events", "executions", "projects", "registry"])
def test_migrations_create_the_declared_tables(service: str, parts: Parts) -> None:
    metadata = import_module(f"services.{service}.store.tables").metadata
    url = parts.migrated_database(service, f"{service}_schema")
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert [difference for difference in differences if "alembic_version" not in str(difference)] == []
