"""Indexes by which lists of projects by name and by time of change need not sort all of them."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("projects_updated_at_identifier", "projects", ["updated_at", "identifier"])
    op.create_index("projects_name_identifier", "projects", ["name", "identifier"])


def downgrade() -> None:
    op.drop_index("projects_name_identifier", "projects")
    op.drop_index("projects_updated_at_identifier", "projects")
