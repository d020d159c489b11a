"""The description_entities table: what a task or workflow says of itself, kept with its registration."""

from datetime import datetime

from flyteidl.admin.description_entity_pb2 import DescriptionEntity
from flyteidl.core.identifier_pb2 import Identifier

from services.kit.db import Connection
from services.registry.store.keys import key_of

# One that was left over belongs to no version and may stay: nothing of a registration hangs on it (registry.md 5.3).
_INSERT = """
INSERT INTO description_entities (created_at, updated_at, resource_type, project, domain, name, version,
    short_description, long_description, link, message)
VALUES (%(now)s, %(now)s, %(resource_type)s, %(project)s, %(domain)s, %(name)s, %(version)s, %(short_description)s,
    %(long_description)b, %(link)s, %(message)b)
ON CONFLICT (resource_type, project, domain, name, version) DO NOTHING
"""


async def insert(connection: Connection, identifier: Identifier, sent: DescriptionEntity, now: datetime) -> None:
    """Keep what was `sent` as the description of the version `identifier`, whatever id it carries itself."""
    message = DescriptionEntity(id=identifier, short_description=sent.short_description, tags=sent.tags)
    # Both are answered even when they are empty (registry.md section 10).
    message.long_description.CopyFrom(sent.long_description)
    message.source_code.CopyFrom(sent.source_code)
    row = key_of(identifier) | {
        "now": now,
        "resource_type": identifier.resource_type,
        "short_description": sent.short_description,
        "long_description": sent.long_description.SerializeToString(),
        "link": sent.source_code.link,
        "message": message.SerializeToString(),
    }
    await connection.execute(_INSERT, row, binary=True)
