"""Matchable attributes, which the previous release does not use."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "matchable_attributes",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("launch_plan", sa.Text, nullable=False),
        sa.Column("resource_type", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attributes", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="matchable_attributes_pkey"),
        sa.UniqueConstraint(
            "project", "domain", "workflow", "launch_plan", "resource_type", name="matchable_attributes_scope"
        ),
    )


def downgrade() -> None:
    op.drop_table("matchable_attributes")
