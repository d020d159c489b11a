"""Alembic's entry to the migrations of the projects database."""

from services.kit.db.migrations import run_env
from services.projects.store.tables import metadata

run_env(metadata)
