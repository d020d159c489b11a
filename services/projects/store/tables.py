"""The tables of the projects database."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Integer, LargeBinary, MetaData, Table, Text

from services.kit.outbox import outbox_table

metadata = MetaData()

projects = Table(
    "projects",
    metadata,
    Column("id", BigInteger, Identity(), nullable=False),
    Column("identifier", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("state", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    # The serialized admin.Project without its domains; the columns above repeat what lists search and sort by.
    Column("message", LargeBinary, nullable=False),
    # The cluster resource controller pages through all projects by time of creation, again and again.
    Index("projects_created_at_identifier", "created_at", "identifier"),
)

outbox = outbox_table(metadata)
