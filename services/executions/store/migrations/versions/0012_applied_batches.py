"""Applied batches on their way to the event log.

The release before this one still works: it does not know the table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

# Only copied; no condition names them.
_NEVER_IN_A_CONDITION = ("lane", "received_at", "batch_id", "marks", "payload", "verdicts")


def upgrade() -> None:
    op.create_table(
        "applied_batches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("marks", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("verdicts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    # Compressing costs more CPU than all the rest of the insert, in the transaction that applies the batch.
    op.execute("ALTER TABLE applied_batches ALTER COLUMN payload SET STORAGE EXTERNAL")
    for column in _NEVER_IN_A_CONDITION:
        op.execute(f"ALTER TABLE applied_batches ALTER COLUMN {column} SET STATISTICS 0")


def downgrade() -> None:
    op.drop_table("applied_batches")
