"""Alembic environment of the events service's schema."""

from services.events.store.tables import metadata
from services.kit.db.migrations import run_env

run_env(metadata)
