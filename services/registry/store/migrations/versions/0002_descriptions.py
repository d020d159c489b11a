"""Indexes for the lists of descriptions: newest first, of one name or of a whole domain.

The unique key is created again, so that it is the youngest: in a generic plan PostgreSQL takes the youngest of indexes
that begin with the same columns, and with another than the key it reads every version of a name to find one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_DOMAIN = ("resource_type", "project", "domain")
_NEWEST = (sa.text("created_at DESC"), sa.text("id DESC"))


def upgrade() -> None:
    op.create_index("description_entities_of_name", "description_entities", [*_DOMAIN, "name", *_NEWEST])
    op.create_index("description_entities_of_domain", "description_entities", [*_DOMAIN, *_NEWEST])
    op.drop_constraint("description_entities_key", "description_entities")
    op.create_unique_constraint("description_entities_key", "description_entities", [*_DOMAIN, "name", "version"])


def downgrade() -> None:
    op.drop_index("description_entities_of_domain", "description_entities")
    op.drop_index("description_entities_of_name", "description_entities")
