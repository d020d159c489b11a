"""Indexes for the lists of descriptions: newest first, of one name or of a whole domain."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NEWEST = (sa.text("created_at DESC"), sa.text("id DESC"))


def upgrade() -> None:
    place = ["resource_type", "project", "domain"]
    op.create_index("description_entities_of_name", "description_entities", [*place, "name", *_NEWEST])
    op.create_index("description_entities_of_domain", "description_entities", [*place, *_NEWEST])


def downgrade() -> None:
    op.drop_index("description_entities_of_domain", "description_entities")
    op.drop_index("description_entities_of_name", "description_entities")
