"""The tasks table: one row for each version, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flyteidl.admin.common_pb2 import NamedEntityState
from flyteidl.admin.description_entity_pb2 import DescriptionEntity
from flyteidl.admin.task_pb2 import Task
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.registry import TASK_REGISTERED
from services.kit.db.database import Connection
from services.kit.messaging.outbox import announcement_row
from services.registry.store.descriptions import DESCRIBE_NEW, description_row
from services.registry.store.keys import REQUESTED, WHERE_KEY, insert_new, key_of, keys_of

_INSERT_TASK = """
INSERT INTO tasks (created_at, updated_at, project, domain, name, version, type, short_description, digest, message)
VALUES (%(now)s, %(now)s, %(project)s, %(domain)s, %(name)s, %(version)s, %(type)s, %(short_description)s,
    %(digest)b, %(message)b)
"""
_INSERT = insert_new(_INSERT_TASK)
_INSERT_DESCRIBED = insert_new(_INSERT_TASK, DESCRIBE_NEW)
_GET = f"SELECT digest, message FROM tasks WHERE {WHERE_KEY}"
_GET_ALL = f"""
SELECT tasks.message FROM {REQUESTED} LEFT JOIN tasks USING (project, domain, name, version) ORDER BY requested.number
"""
_TOTAL_BYTES = f"""
SELECT coalesce(sum(octet_length(tasks.message)), 0)::bigint
FROM {REQUESTED} JOIN tasks USING (project, domain, name, version)
"""


@dataclass(frozen=True)
class Stored:
    """A registered task."""

    digest: bytes
    message: bytes  # admin.Task


async def insert(
    connection: Connection, task: Task, digest: bytes, now: datetime, description: DescriptionEntity | None
) -> bool:
    """Insert `task`, its description and its announcement; return whether it is new, and change nothing if not."""
    row = key_of(task.id) | {
        "now": now,
        "resource_type": ResourceType.TASK,
        "name_state": NamedEntityState.NAMED_ENTITY_ACTIVE,
        "type": task.closure.compiled_task.template.type,
        "short_description": task.short_description,
        "digest": digest,
        "message": task.SerializeToString(),
        **announcement_row(TASK_REGISTERED, task.id),
    }
    if description is not None:
        row |= description_row(task.id, description)
    statement = _INSERT if description is None else _INSERT_DESCRIBED
    cursor = await connection.execute(statement, row, binary=True)
    return await cursor.fetchone() is not None


async def get(connection: Connection, identifier: Identifier) -> Stored | None:
    """Return the task; None when there is none."""
    cursor = await connection.execute(_GET, key_of(identifier), binary=True)
    row = await cursor.fetchone()
    return Stored(*row) if row else None


async def total_bytes(connection: Connection, identifiers: Sequence[Identifier]) -> int:
    """Return how many bytes the tasks that `get_all` returns have together."""
    cursor = await connection.execute(_TOTAL_BYTES, keys_of(identifiers), binary=True)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def get_all(connection: Connection, identifiers: Sequence[Identifier]) -> list[bytes | None]:
    """Return the serialized task of each identifier, None where there is none."""
    cursor = await connection.execute(_GET_ALL, keys_of(identifiers), binary=True)
    return [row[0] for row in await cursor.fetchall()]
