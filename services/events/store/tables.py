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
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
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

# Every batch of events that was received, as it travelled, with the verdicts on its events: one row a batch, so that
# the log costs next to nothing an event. Partitions of one day each come and go with time (`log_days`).
event_log = Table(
    "event_log",
    metadata,
    Column("received_at", TIMESTAMP(timezone=True), primary_key=True),  # by the stream, so the same at every delivery
    Column("batch_id", Text, primary_key=True),
    Column("lane", SmallInteger, nullable=False),
    Column("marks", LargeBinary),  # 8 bytes an event: whose it is (`event_fingerprints`); NULL: its sender did not say
    Column("payload", LargeBinary, nullable=False),  # storage EXTERNAL
    Column("verdicts", LargeBinary),  # as they travelled; NULL: not known yet, empty: there will be none
    postgresql_partition_by="RANGE (received_at)",
)
Index("event_log_by_lane", event_log.c.lane, event_log.c.received_at)
Index("event_log_unanswered", event_log.c.received_at, postgresql_where=text("verdicts IS NULL"))
