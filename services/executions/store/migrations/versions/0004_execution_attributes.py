"""The matchable attributes that act on an execution; empty in rows of the release before this one."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "executions",
        sa.Column("execution_attributes", sa.LargeBinary, nullable=False, server_default=sa.text("''::bytea")),
    )


def downgrade() -> None:
    op.drop_column("executions", "execution_attributes")
