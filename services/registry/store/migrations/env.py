"""Alembic's entry to the migrations of the registry's database."""

from services.kit.db.migrations import run_env
from services.registry.store.tables import metadata

run_env(metadata)
