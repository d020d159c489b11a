"""The event log: all batches of events, with the times at which they were received and their verdicts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "event_log",
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("marks", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("verdicts", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("received_at", "batch_id"),
        postgresql_partition_by="RANGE (received_at)",
    )
    # Compressing costs more CPU than all the rest of the insert; the partitions inherit this.
    op.execute("ALTER TABLE event_log ALTER COLUMN payload SET STORAGE EXTERNAL")
    op.create_index("event_log_by_lane", "event_log", ["lane", "received_at"])
    op.create_index("event_log_unanswered", "event_log", ["received_at"], postgresql_where=sa.text("verdicts IS NULL"))


def downgrade() -> None:
    op.drop_table("event_log")
