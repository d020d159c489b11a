"""Store the number of the last applied batch of each sender in the lane's cursor.

Batches of events may go directly to executions, without a position in the stream. The release before this one ignores
the column; it recognises the batches that it applies by their position.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("event_lanes", sa.Column("senders", sa.Text()))


def downgrade() -> None:
    op.drop_column("event_lanes", "senders")
