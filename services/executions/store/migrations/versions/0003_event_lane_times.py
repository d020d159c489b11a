"""The time at which the stream stored the batch that a lane applied last.

The release before this one does not update it, so fewer repeated batches are recognized as applied.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("event_lanes", sa.Column("stored_at", sa.TIMESTAMP(timezone=True)))


def downgrade() -> None:
    op.drop_column("event_lanes", "stored_at")
