"""The columns of an execution that its engine needs, and the cluster in which it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.executions.rules.placements import Placement, in_cluster, namespace_of
from services.kit.db.database import Connection

_KEY = "execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s"
_GET_PHASE = f"SELECT phase FROM executions WHERE {_KEY}"
_GET = f"""
SELECT phase, cluster, spec, execution_config, execution_attributes, closure, inputs_uri, execution_created_at
FROM executions
WHERE {_KEY}
"""
# The first assignment wins; later ones are events of the cluster that took the execution over.
_ASSIGN = f"UPDATE executions SET cluster = %(cluster)s, spec = %(spec)b WHERE {_KEY} AND cluster = ''"
_GET_CLUSTER = f"SELECT cluster FROM executions WHERE {_KEY}"
_GET_PLACEMENTS = """
SELECT execution_project, execution_domain, execution_name, cluster, spec, execution_created_at FROM executions
WHERE (execution_project, execution_domain, execution_name) IN (
    SELECT * FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[])
)
"""


@dataclass(frozen=True)
class StoredRunRequest:
    """The columns.

    Serialized: admin.ExecutionSpec, WorkflowExecutionConfig, ListMatchableAttributesResponse, ExecutionClosure.
    """

    phase: str
    cluster: str
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


async def assign_cluster(
    connection: Connection, identifier: WorkflowExecutionIdentifier, stored: StoredRunRequest, cluster: str
) -> str:
    """Store the cluster of an execution that has none; return the stored one, which may be of another replica."""
    values = {**_key(identifier), "cluster": cluster, "spec": in_cluster(stored.spec, cluster)}
    cursor = await connection.execute(_ASSIGN, values)
    if cursor.rowcount:
        return cluster
    cursor = await connection.execute(_GET_CLUSTER, _key(identifier))
    (assigned,) = await cursor.fetchone() or (cluster,)
    return str(assigned)


async def get_placements(connection: Connection, identifiers: Sequence[WorkflowExecutionIdentifier]) -> list[Placement]:
    """Return where these executions run, in any order; those that do not exist are left out."""
    keys = {
        "projects": [identifier.project for identifier in identifiers],
        "domains": [identifier.domain for identifier in identifiers],
        "names": [identifier.name for identifier in identifiers],
    }
    cursor = await connection.execute(_GET_PLACEMENTS, keys, binary=True)
    return [
        Placement(
            WorkflowExecutionIdentifier(project=project, domain=domain, name=name),
            cluster,
            namespace_of(spec),
            created_at,
        )
        for project, domain, name, cluster, spec, created_at in await cursor.fetchall()
    ]


def _key(identifier: WorkflowExecutionIdentifier) -> dict[str, str]:
    return {"project": identifier.project, "domain": identifier.domain, "name": identifier.name}
