"""An index of the executions that a node has launched."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_INDEX = "executions_by_parent_node"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, "executions", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _INDEX,
            "executions",
            ["parent_node_execution_id"],
            postgresql_where=sa.text("parent_node_execution_id <> 0"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index(_INDEX, "executions")
