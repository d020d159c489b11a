"""The workflows table: one row for each version, never changed. The compiled closure is in the object store."""

from dataclasses import dataclass
from datetime import datetime

from flyteidl.admin.description_entity_pb2 import DescriptionEntity
from flyteidl.admin.workflow_pb2 import Workflow
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.registry import WORKFLOW_REGISTERED
from services.kit.db.database import Connection
from services.kit.messaging.outbox import announcement_row
from services.registry.store.descriptions import DESCRIBE_NEW, description_row
from services.registry.store.keys import WHERE_KEY, insert_new, key_of

_INSERT_WORKFLOW = """
INSERT INTO workflows (created_at, updated_at, project, domain, name, version, short_description, digest,
    request_digest, remote_closure_identifier, closure_size, message)
VALUES (%(now)s, %(now)s, %(project)s, %(domain)s, %(name)s, %(version)s, %(short_description)s, %(digest)b,
    %(request_digest)b, %(uri)s, %(size)s, %(message)b)
"""
_INSERT = insert_new(_INSERT_WORKFLOW)
_INSERT_DESCRIBED = insert_new(_INSERT_WORKFLOW, DESCRIBE_NEW)
_GET = f"""
SELECT id, digest, request_digest, remote_closure_identifier, closure_size, message FROM workflows WHERE {WHERE_KEY}
"""


@dataclass(frozen=True)
class Stored:
    """A registered workflow."""

    id: int
    digest: bytes
    request_digest: bytes
    uri: str  # of the object with the closure
    size: int  # of that object, in bytes
    message: bytes  # admin.Workflow, of its closure only the interface


@dataclass(frozen=True)
class New:
    """A workflow to register."""

    listed: Workflow  # of its closure only the interface
    digest: bytes
    request_digest: bytes
    uri: str
    size: int
    name_state: int  # admin.NamedEntityState of the name, when this is its first version


async def insert(connection: Connection, workflow: New, now: datetime, description: DescriptionEntity | None) -> bool:
    """Insert `workflow`, its description and its announcement; return whether it is new, and change nothing if not."""
    row = key_of(workflow.listed.id) | {
        "now": now,
        "resource_type": ResourceType.WORKFLOW,
        "name_state": workflow.name_state,
        "short_description": workflow.listed.short_description,
        "digest": workflow.digest,
        "request_digest": workflow.request_digest,
        "uri": workflow.uri,
        "size": workflow.size,
        "message": workflow.listed.SerializeToString(),
        **announcement_row(WORKFLOW_REGISTERED, workflow.listed.id),
    }
    if description is not None:
        row |= description_row(workflow.listed.id, description)
    statement = _INSERT if description is None else _INSERT_DESCRIBED
    cursor = await connection.execute(statement, row, binary=True)
    return await cursor.fetchone() is not None


async def get(connection: Connection, identifier: Identifier) -> Stored | None:
    """Return the workflow; None when there is none."""
    cursor = await connection.execute(_GET, key_of(identifier), binary=True)
    row = await cursor.fetchone()
    return Stored(*row) if row else None
