"""The migrations of each service make the tables that its code declares."""

from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.kit.migrations import migrate
from tests.support.parts import Parts


@pytest.mark.parametrize("service", ["events", "executions", "projects", "registry"])
def test_migrations_make_the_declared_tables(service: str, parts: Parts) -> None:
    store = import_module(f"services.{service}.store")
    metadata = import_module(f"services.{service}.store.tables").metadata
    url = parts.new_database(f"{service}_schema")
    migrate(url, Path(store.__path__[0]) / "migrations")
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert [difference for difference in differences if "alembic_version" not in str(difference)] == []
