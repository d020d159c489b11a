"""The time of the first termination of an execution; the release before this one does not set it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_INDEX = "executions_aborting"


def upgrade() -> None:
    op.add_column("executions", sa.Column("aborting_since", sa.TIMESTAMP(timezone=True)))
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, "executions", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _INDEX,
            "executions",
            ["aborting_since"],
            postgresql_where=sa.text("phase = 'ABORTING'"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_column("executions", "aborting_since")
