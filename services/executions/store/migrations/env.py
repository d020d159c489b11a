"""Alembic's entry into the executions service's schema."""

from services.executions.store.tables import metadata
from services.kit.db.migrations import run_env

run_env(metadata)
