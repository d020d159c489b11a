"""The table audit_log, for migrations: a process that serves does not need SQLAlchemy for it."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, MetaData, Table, Text

from services.kit.audit.store import COLUMNS


def audit_table(metadata: MetaData) -> Table:
    """Return the table of the audit log, for a service's metadata."""
    table = Table(
        "audit_log",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("at", DateTime(timezone=True), nullable=False),
        *(Column(name, Text, nullable=False) for name in COLUMNS[1:]),
    )
    Index("audit_log_by_time", table.c.at, table.c.id)
    return table
