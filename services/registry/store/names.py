"""The named_entities table: a row for each name of a task, workflow or launch plan, inserted with its first version.

Lists of names read these rows and not the versions; filters on versions are looked up for each name. The metadata of a
name (registry.md#named-entities) is in its row, ACTIVE and without description at first.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from flyteidl.admin.common_pb2 import NamedEntity, NamedEntityIdentifier, NamedEntityList, NamedEntityMetadata
from flyteidl.core.identifier_pb2 import ResourceType
from sqlalchemy import ColumnElement, Select, and_, select, true

from services.kit.db.database import Connection, fetch_text
from services.kit.lists.query import Column, Condition, Entity, Listing, ListQuery, ValueType
from services.kit.lists.statements import STATEMENT_CACHE, given_columns, paged, scope_conditions
from services.registry.store.keys import WHERE_NAME
from services.registry.store.listings import LAUNCH_PLANS, TASKS, WORKFLOWS, base
from services.registry.store.tables import launch_plans, named_entities, tasks, workflows
from services.registry.store.version_pages import WORKFLOW_KEY

_ROW = f"resource_type = %(resource_type)s AND {WHERE_NAME}"
_GET = f"SELECT project, domain, name, description, state FROM named_entities WHERE {_ROW}"
# The state is always set, the description only when it is not empty; a description that was never set becomes empty,
# so that filters match it (registry.md#updatenamedentity).
_UPDATE = f"""
UPDATE named_entities
SET state = %(state)s, description = COALESCE(NULLIF(%(description)s::text, ''), description, ''), updated_at = %(now)s
WHERE {_ROW}
RETURNING id
"""

_VERSIONS = {ResourceType.TASK: tasks, ResourceType.WORKFLOW: workflows, ResourceType.LAUNCH_PLAN: launch_plans}
_OF_NAMES = "named_entity_metadata"

_FULL_NAME = {field: Column(named_entities.c[field]) for field in ("project", "domain", "name")}
_BY_NAME = tuple(column.expression for column in _FULL_NAME.values())
_KEY = (named_entities.c.resource_type, *(named_entities.c[field] for field in _FULL_NAME))
_NAME = {
    **_FULL_NAME,
    "resource_type": Column(named_entities.c.resource_type, ValueType.INTEGER),
    "description": Column(named_entities.c.description),
    "state": Column(named_entities.c.state, ValueType.INTEGER),
}
_METADATA = Entity("nem", {**base(named_entities), **_NAME})
# created_at is the time of the first version, flytectl's default; flyteadmin accepts that key and fails on it.
_SORT_KEYS = {**_FULL_NAME, "created_at": Column(named_entities.c.created_at, ValueType.TIMESTAMP)}

NAMED_ENTITIES = Listing(
    "entities",
    Entity("nen", _NAME),
    tie_break=named_entities.c.name,
    joined={_OF_NAMES: _METADATA},
    default_order=_BY_NAME,
    sort_keys=_SORT_KEYS,
)


def _is_of_name(column: str, resource_type: ResourceType) -> bool:
    """Return whether a column of versions is that of their name; a launch plan has a state of its own."""
    return column in _FULL_NAME or (column == "state" and resource_type != ResourceType.LAUNCH_PLAN)


def _of_versions(listing: Listing, resource_type: ResourceType) -> Listing:
    """Return the list of names that have versions in `listing`, with filters on versions and on names."""
    own = {column: _NAME[column] for column in listing.primary.columns if _is_of_name(column, resource_type)}
    return Listing(
        listing.prefix,
        Entity(listing.primary.code, {**listing.primary.columns, **own}),
        tie_break=named_entities.c.name,
        joined={**listing.joined, _OF_NAMES: _METADATA},
        default_order=_BY_NAME,
        sort_keys=_SORT_KEYS,
    )


TASK_NAMES = _of_versions(TASKS, ResourceType.TASK)
WORKFLOW_NAMES = _of_versions(WORKFLOWS, ResourceType.WORKFLOW)
LAUNCH_PLAN_NAMES = _of_versions(LAUNCH_PLANS, ResourceType.LAUNCH_PLAN)


async def get(connection: Connection, resource_type: ResourceType, name: NamedEntityIdentifier) -> NamedEntity | None:
    """Return the name with its metadata; None when no version has it."""
    cursor = await connection.execute(_GET, _key(resource_type, name), binary=True)
    row = await cursor.fetchone()
    return _filled(NamedEntity(), resource_type, row) if row else None


async def update(
    connection: Connection,
    resource_type: ResourceType,
    name: NamedEntityIdentifier,
    metadata: NamedEntityMetadata,
    now: datetime,
) -> bool:
    """Set the metadata of the name and return whether it exists."""
    values = {"state": metadata.state, "description": metadata.description, "now": now}
    cursor = await connection.execute(_UPDATE, _key(resource_type, name) | values, binary=True)
    return await cursor.fetchone() is not None


async def find(
    connection: Connection, query: ListQuery, resource_type: ResourceType, *, project: str, domain: str
) -> NamedEntityList:
    """Return the names of a page with their metadata, without a token."""
    scope = {"resource_type": resource_type, "project": project, "domain": domain}

    def compose() -> Select[Any]:
        # The keys of the page come from an index alone: rows that the offset skips are not read from the table.
        page = _page(select(*_KEY).where(*query.where), scope, query).subquery("page")
        columns = (*_BY_NAME, named_entities.c.description, named_entities.c.state)
        same = and_(*(page.c[column.key] == column for column in _KEY))
        return select(*columns).join(page, same).order_by(*query.order_by, *_BY_NAME)

    response = NamedEntityList()
    # Filling messages in place halves the cost of the console's page of ten thousand names.
    for row in await _read(connection, "named entities", query, scope, compose):
        _filled(response.entities.add(), resource_type, row)
    return response


async def find_ids(
    connection: Connection, query: ListQuery, resource_type: ResourceType, *, project: str, domain: str
) -> list[tuple[Any, ...]]:
    """Return project, domain and name of each name of a page; an empty project or domain is any.

    A name matches if one of its versions meets all filters on versions.
    """
    scope = {"resource_type": resource_type, "project": project, "domain": domain}

    def is_of_names(condition: Condition) -> bool:
        own = not condition.prefix and _is_of_name(condition.column, resource_type)
        return own or condition.prefix == _OF_NAMES

    def compose() -> Select[Any]:
        of_versions = [condition for condition in query.conditions if not is_of_names(condition)]
        of_names = (condition.clause for condition in query.conditions if is_of_names(condition))
        names = select(*_BY_NAME).where(*of_names)
        if of_versions:
            names = names.where(_has_version(resource_type, of_versions))
        return _page(names, scope, query)

    return await _read(connection, "names", query, scope, compose)


async def _read(
    connection: Connection, kind: str, query: ListQuery, scope: Mapping[str, Any], compose: Callable[[], Select[Any]]
) -> list[tuple[Any, ...]]:
    """Return the rows of a page; `kind` distinguishes the statements of `compose` in the statement cache."""
    shape = (kind, scope["resource_type"], query.shape, given_columns(scope))
    text = await STATEMENT_CACHE.text_of(shape, compose, len(query.conditions))
    return await fetch_text(connection, text, {**scope, **query.values})


def _has_version(resource_type: ResourceType, conditions: list[Condition]) -> ColumnElement[bool]:
    """Return a condition: one version of the name meets all `conditions`."""
    table = _VERSIONS[resource_type]
    same_name = and_(*(table.c[field] == column.expression for field, column in _FULL_NAME.items()))
    version = select(true()).select_from(table).where(same_name, *(condition.clause for condition in conditions))
    if any(condition.prefix and condition.column not in WORKFLOW_KEY for condition in conditions):
        version = version.join(workflows, workflows.c.id == launch_plans.c.workflow_id)
    return version.correlate(named_entities).exists()


def _page(names: Select[Any], scope: Mapping[str, Any], query: ListQuery) -> Select[Any]:
    # The order always ends with the whole key: its index can be used, and pages never overlap.
    return paged(names.where(*scope_conditions(named_entities, scope))).order_by(*query.order_by, *_BY_NAME)


def _key(resource_type: ResourceType, name: NamedEntityIdentifier) -> dict[str, object]:
    return {"resource_type": resource_type, "project": name.project, "domain": name.domain, "name": name.name}


def _filled(entity: NamedEntity, resource_type: ResourceType, row: Sequence[Any]) -> NamedEntity:
    entity.resource_type = resource_type
    identity, metadata = entity.id, entity.metadata
    identity.project, identity.domain, identity.name, description, metadata.state = row
    metadata.description = description or ""
    metadata.SetInParent()  # also when all its fields have their defaults
    return entity
