"""The signals table (executions.md#signalservice)."""

from dataclasses import dataclass
from typing import Any

from flyteidl.core.identifier_pb2 import SignalIdentifier, WorkflowExecutionIdentifier
from sqlalchemy import DateTime, Select, cast, null

from services.executions.store.tables import EXECUTION_KEY, signals
from services.kit.db.database import Connection
from services.kit.lists.pages import Page, RowPage
from services.kit.lists.query import Column, Entity, Listing, ListQuery, ValueType
from services.kit.lists.statements import scope_conditions

_KEY = """
execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s
    AND signal_id = %(signal_id)s
"""
_GET = f"SELECT type, value FROM signals WHERE {_KEY}"
_LOCK = f"SELECT type, value FROM signals WHERE {_KEY} FOR UPDATE"
_CREATE = """
INSERT INTO signals (execution_project, execution_domain, execution_name, signal_id, type)
VALUES (%(project)s, %(domain)s, %(name)s, %(signal_id)s, %(type)b)
ON CONFLICT DO NOTHING
"""
_SET = f"UPDATE signals SET value = %(value)b, updated_at = now() WHERE {_KEY}"

LISTING = Listing(
    prefix="signal",
    primary=Entity(
        "s",
        {
            "id": Column(signals.c.id, ValueType.INTEGER),
            "created_at": Column(signals.c.created_at, ValueType.TIMESTAMP),
            "updated_at": Column(signals.c.updated_at, ValueType.TIMESTAMP),
            "deleted_at": Column(cast(null(), DateTime(timezone=True)), ValueType.TIMESTAMP),
            "execution_project": Column(signals.c.execution_project),
            "execution_domain": Column(signals.c.execution_domain),
            "execution_name": Column(signals.c.execution_name),
            "signal_id": Column(signals.c.signal_id),
            "type": Column(signals.c.type, ValueType.BYTES),
            "value": Column(signals.c.value, ValueType.BYTES),
        },
    ),
    tie_break=signals.c.id,
)


@dataclass(frozen=True)
class StoredSignal:
    """A signal: its serialized core.LiteralType, and its serialized core.Literal, None until it is set."""

    signal_id: str
    type: bytes
    value: bytes | None


async def get(connection: Connection, identifier: SignalIdentifier) -> StoredSignal | None:
    """Return a signal; None when there is no such signal."""
    return await _read(connection, _GET, identifier)


async def lock(connection: Connection, identifier: SignalIdentifier) -> StoredSignal | None:
    """Lock a signal until the transaction ends and return it; None when there is no such signal."""
    return await _read(connection, _LOCK, identifier)


async def create(connection: Connection, identifier: SignalIdentifier, type_: bytes) -> None:
    """Store a signal without a value; an existing one is not changed."""
    await connection.execute(_CREATE, _key(identifier) | {"type": type_})


async def set_value(connection: Connection, identifier: SignalIdentifier, value: bytes) -> None:
    """Set the value of a signal; it replaces a former one."""
    await connection.execute(_SET, _key(identifier) | {"value": value})


async def find(connection: Connection, query: ListQuery, execution: WorkflowExecutionIdentifier) -> Page[StoredSignal]:
    """Return a page of an execution's signals."""
    key = dict(zip(EXECUTION_KEY, (execution.project, execution.domain, execution.name), strict=True))

    def restrict(statement: Select[Any]) -> Select[Any]:
        return statement.where(*scope_conditions(signals, key), *query.where)

    columns = (signals.c.signal_id, signals.c.type, signals.c.value)
    rows = await RowPage(signals, columns, query, restrict, cache_key=None, values=key).read(connection)
    return Page((StoredSignal(*row) for row in rows), more=rows.more)


async def _read(connection: Connection, statement: str, identifier: SignalIdentifier) -> StoredSignal | None:
    cursor = await connection.execute(statement, _key(identifier), binary=True)
    row = await cursor.fetchone()
    return None if row is None else StoredSignal(identifier.signal_id, *row)


def _key(identifier: SignalIdentifier) -> dict[str, object]:
    execution = identifier.execution_id
    return {
        "project": execution.project,
        "domain": execution.domain,
        "name": execution.name,
        "signal_id": identifier.signal_id,
    }
