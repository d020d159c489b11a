"""The columns of an execution that its engine needs."""

from dataclasses import dataclass
from datetime import datetime

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.kit.db.database import Connection

_KEY = "execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s"
_GET_PHASE = f"SELECT phase FROM executions WHERE {_KEY}"
_GET = f"""
SELECT spec, execution_config, execution_attributes, closure, inputs_uri, execution_created_at FROM executions
WHERE {_KEY}
"""


@dataclass(frozen=True)
class StoredRunRequest:
    """Serialized admin.ExecutionSpec, WorkflowExecutionConfig, ListMatchableAttributesResponse, ExecutionClosure."""

    spec: bytes
    config: bytes
    attributes: bytes
    closure: bytes
    inputs_uri: str
    created_at: datetime


async def get_phase(connection: Connection, identifier: WorkflowExecutionIdentifier) -> str | None:
    """Return the phase of an execution, by name; None when there is no such execution."""
    cursor = await connection.execute(_GET_PHASE, _key(identifier))
    row = await cursor.fetchone()
    return row[0] if row else None


async def get_run_request(connection: Connection, identifier: WorkflowExecutionIdentifier) -> StoredRunRequest | None:
    """Return what the engine needs to run an execution; None when there is no such execution."""
    cursor = await connection.execute(_GET, _key(identifier), binary=True)
    row = await cursor.fetchone()
    return StoredRunRequest(*row) if row else None


def _key(identifier: WorkflowExecutionIdentifier) -> dict[str, str]:
    return {"project": identifier.project, "domain": identifier.domain, "name": identifier.name}
