"""The number of nodes and tasks of an execution in each phase.

The release before this one does not count: while both run, the counts of executions whose events it applies get wrong,
and stay so.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

# A row is rewritten with every event of its execution; with half of the page free, updates stay in the page.
_FILLFACTOR = 50


def upgrade() -> None:
    op.create_table(
        "phase_counts",
        sa.Column("execution_project", sa.Text(), nullable=False),
        sa.Column("execution_domain", sa.Text(), nullable=False),
        sa.Column("execution_name", sa.Text(), nullable=False),
        sa.Column("nodes", postgresql.JSONB(), nullable=False),
        sa.Column("tasks", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("execution_project", "execution_domain", "execution_name"),
    )
    op.execute(f"ALTER TABLE phase_counts SET (fillfactor = {_FILLFACTOR})")


def downgrade() -> None:
    op.drop_table("phase_counts")
