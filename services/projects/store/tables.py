"""The tables of the projects database."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from services.kit.audit.table import audit_table
from services.kit.messaging.outbox_table import outbox_table

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
    # The serialized admin.Project without its domains; the columns above repeat what lists filter and sort by.
    Column("message", LargeBinary, nullable=False),
    # The cluster resource controller repeatedly lists all projects by time of creation.
    Index("projects_created_at_identifier", "created_at", "identifier"),
    Index("projects_updated_at_identifier", "updated_at", "identifier"),
    Index("projects_name_identifier", "name", "identifier"),
)

# A part that a row's scope does not have is an empty text. No RPC writes rows without a project or for a launch plan;
# they are read nevertheless, as migrated data may have them.
matchable_attributes = Table(
    "matchable_attributes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("project", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("launch_plan", Text, nullable=False),
    Column("resource_type", Integer, nullable=False),  # admin.MatchableResource
    Column("priority", Integer, nullable=False),  # of rows that match, the one with the highest counts
    Column("attributes", LargeBinary, nullable=False),  # admin.MatchingAttributes
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint(
        "project", "domain", "workflow", "launch_plan", "resource_type", name="matchable_attributes_scope"
    ),
)

outbox = outbox_table(metadata)

audit_log = audit_table(metadata)
