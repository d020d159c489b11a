"""Every table of the events service."""

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)

metadata = MetaData()

# Events that executions refused, with the reason. Their engines usually heard it; after an outage of executions they
# were told OK before, and this is where the difference is found.
refused_events = Table(
    "refused_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=func.now()),
    Column("batch_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False),  # WORKFLOW, NODE or TASK
    Column("code", Integer, nullable=False),  # google.rpc.Code
    Column("message", Text, nullable=False),
    Column("status", LargeBinary, nullable=False),  # google.rpc.Status with its typed details
    Column("event", LargeBinary, nullable=False),  # the request as it came, or the URI of the object that holds it
    Column("by_reference", Boolean, nullable=False),
    UniqueConstraint("batch_id", "position", name="refused_events_key"),
)
Index("refused_events_by_time", refused_events.c.created_at)
