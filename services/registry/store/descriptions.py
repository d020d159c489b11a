"""The description_entities table: descriptions of tasks and workflows, stored with their registration."""

from collections.abc import Iterable

from flyteidl.admin.common_pb2 import NamedEntityIdentifier
from flyteidl.admin.description_entity_pb2 import DescriptionEntity
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.kit.db.database import Connection
from services.kit.lists.pages import Page
from services.kit.lists.query import Column, Entity, Listing, ListQuery, ValueType
from services.registry.store.keys import WHERE_KEY, key_of
from services.registry.store.listings import LAUNCH_PLANS, TASKS, WORKFLOWS, base
from services.registry.store.tables import description_entities as table
from services.registry.store.version_pages import VersionPage

# A left-over description without a version is kept: it does not block a registration
# (registry.md#registering-a-task-twice).
DESCRIBE_NEW = """
described AS (
    INSERT INTO description_entities (created_at, updated_at, resource_type, project, domain, name, version,
        short_description, long_description, link, message)
    SELECT %(now)s, %(now)s, %(resource_type)s, %(project)s, %(domain)s, %(name)s, %(version)s, %(short_description)s,
        %(long_description)b, %(link)s, %(description)b
    FROM new
    ON CONFLICT (resource_type, project, domain, name, version) DO NOTHING
)
"""
_GET = f"SELECT message FROM description_entities WHERE resource_type = %(resource_type)s AND {WHERE_KEY}"

_COLUMNS = {
    **base(table),
    "resource_type": Column(table.c.resource_type, ValueType.INTEGER),
    "version": Column(table.c.version),
    "short_description": Column(table.c.short_description),
    "long_description": Column(table.c.long_description, ValueType.BYTES),
    "link": Column(table.c.link),
}


def _listing(prefix: str, code: str, fields: Iterable[str]) -> Listing:
    """Return a list whose filters may name those of `fields` that descriptions have (lists.md#description-lists)."""
    columns = {field: _COLUMNS[field] for field in fields if field in _COLUMNS}
    newest_first = (table.c.created_at.desc(), table.c.id.desc())
    return Listing(prefix, Entity(code, columns), tie_break=table.c.id, default_order=newest_first, sort_keys=_COLUMNS)


_LISTINGS = {
    resource_type: _listing(versions.prefix, versions.primary.code, versions.primary.columns)
    for resource_type, versions in (
        (ResourceType.TASK, TASKS),
        (ResourceType.WORKFLOW, WORKFLOWS),
        (ResourceType.LAUNCH_PLAN, LAUNCH_PLANS),
    )
}
_OF_NO_ENTITY = _listing("", "", _COLUMNS)


def listing_of(resource_type: ResourceType) -> Listing:
    """Return what a list of the descriptions of this type may filter and sort by."""
    return _LISTINGS.get(resource_type, _OF_NO_ENTITY)


def description_row(identifier: Identifier, sent: DescriptionEntity) -> dict[str, object]:
    """Return the parameters of DESCRIBE_NEW that are those of `sent` for `identifier`; its own id is ignored."""
    message = DescriptionEntity(id=identifier, short_description=sent.short_description, tags=sent.tags)
    # Both are returned even when they are empty (registry.md#description-entities).
    message.long_description.CopyFrom(sent.long_description)
    message.source_code.CopyFrom(sent.source_code)
    return {
        "short_description": sent.short_description,
        "long_description": sent.long_description.SerializeToString(),
        "link": sent.source_code.link,
        "description": message.SerializeToString(),
    }


async def get(connection: Connection, identifier: Identifier) -> bytes | None:
    """Return the description of a version, serialized; None when it has none."""
    values = key_of(identifier) | {"resource_type": identifier.resource_type}
    cursor = await connection.execute(_GET, values, binary=True)
    row = await cursor.fetchone()
    return row[0] if row else None


async def find(
    connection: Connection, query: ListQuery, resource_type: ResourceType, name: NamedEntityIdentifier
) -> Page[bytes]:
    """Return the serialized descriptions of a page; an unspecified type or empty name is any."""
    scope = {
        "resource_type": resource_type,
        "project": name.project,
        "domain": name.domain,
        "name": name.name,
    }
    rows = await VersionPage(table, (table.c.message,), scope, query).read(connection)
    return Page((message for (message,) in rows), more=rows.more)
