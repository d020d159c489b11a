"""The table of the outbox, for migrations: a process that serves does not need SQLAlchemy for it."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, LargeBinary, MetaData, String, Table, func


def outbox_table(metadata: MetaData) -> Table:
    """Return the outbox table, for a service's metadata."""
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("subject", String, nullable=False),
        Column("payload", LargeBinary, nullable=False),
    )
