"""What an engine is handed of an execution, as its row holds it."""

from dataclasses import dataclass
from datetime import datetime

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.kit.db.database import Connection

_KEY = "execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s"
_PHASE = f"SELECT phase FROM executions WHERE {_KEY}"
_WORK = f"""
SELECT spec, execution_config, execution_attributes, closure, inputs_uri, execution_created_at FROM executions
WHERE {_KEY}
"""


@dataclass(frozen=True)
class StoredWork:
    """Serialized admin.ExecutionSpec, WorkflowExecutionConfig, ListMatchableAttributesResponse, ExecutionClosure."""

    spec: bytes
    config: bytes
    attributes: bytes
    closure: bytes
    inputs_uri: str
    created_at: datetime


async def get_phase(connection: Connection, identifier: WorkflowExecutionIdentifier) -> str | None:
    """Return the phase of an execution, by name; None when there is none."""
    cursor = await connection.execute(_PHASE, _key(identifier))
    row = await cursor.fetchone()
    return row[0] if row else None


async def get_work(connection: Connection, identifier: WorkflowExecutionIdentifier) -> StoredWork | None:
    """Return what the execution's engine is handed; None when there is none."""
    cursor = await connection.execute(_WORK, _key(identifier), binary=True)
    row = await cursor.fetchone()
    return StoredWork(*row) if row else None


def _key(identifier: WorkflowExecutionIdentifier) -> dict[str, str]:
    return {"project": identifier.project, "domain": identifier.domain, "name": identifier.name}
