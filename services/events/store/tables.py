"""The tables of the events service."""

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
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from services.kit.audit.table import audit_table

metadata = MetaData()

# Events that executions refused, with the reason. Their engines usually received it; during an outage of executions
# they received OK before, and only this table shows the difference.
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
    Column("event", LargeBinary, nullable=False),  # the request as received, or the URI of its object
    Column("by_reference", Boolean, nullable=False),
    UniqueConstraint("batch_id", "position", name="refused_events_key"),
)
Index("refused_events_by_time", refused_events.c.created_at)

# All batches of events that were applied, framed, with the verdicts of their events: one row for each batch, so the log
# costs next to nothing per event. Partitions of one day each are created and dropped (`log_partitions`).
event_log = Table(
    "event_log",
    metadata,
    Column("received_at", TIMESTAMP(timezone=True), primary_key=True),  # the same whenever it is taken from executions
    Column("batch_id", Text, primary_key=True),
    Column("lane", SmallInteger, nullable=False),
    # Fingerprints, 8 bytes for each event, under the name of earlier releases; NULL: the sender did not send them.
    Column("marks", LargeBinary),
    Column("payload", LargeBinary, nullable=False),  # storage EXTERNAL
    Column("verdicts", LargeBinary),  # framed; empty: unreadable batch, NULL: missed by a former release
    postgresql_partition_by="RANGE (received_at)",
)
Index("event_log_by_lane", event_log.c.lane, event_log.c.received_at)
Index("event_log_unanswered", event_log.c.received_at, postgresql_where=text("verdicts IS NULL"))

audit_log = audit_table(metadata)
