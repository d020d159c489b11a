"""From a list request to a page, for every list of the registry."""

from flyteidl.admin.common_pb2 import (
    NamedEntityIdentifier,
    NamedEntityIdentifierList,
    NamedEntityIdentifierListRequest,
    NamedEntityListRequest,
    ResourceListRequest,
)
from flyteidl.admin.description_entity_pb2 import DescriptionEntityListRequest
from flyteidl.core.identifier_pb2 import ResourceType

from services.kit.db.database import Database
from services.kit.lists.query import Listing, ListQuery
from services.registry.store import names

ListRequest = (
    ResourceListRequest | NamedEntityIdentifierListRequest | NamedEntityListRequest | DescriptionEntityListRequest
)


def plan_of(listing: Listing, name: str, request: ListRequest) -> ListQuery:
    """Check what lists have in common; `name` is what a bad token is told to be for. Raises InvalidArgument."""
    return listing.plan(
        name=name,
        limit=request.limit,
        token=request.token,
        filters=request.filters,
        sort_key=request.sort_by.key if request.HasField("sort_by") else None,
        sort_direction=request.sort_by.direction,
    )


async def names_page(
    db: Database,
    plan: ListQuery,
    resource_type: ResourceType,
    request: NamedEntityIdentifierListRequest,
) -> bytes:
    """Read and answer a page of names."""
    async with db.read() as connection:
        found = await names.find_ids(connection, plan, resource_type, project=request.project, domain=request.domain)
    entities = [NamedEntityIdentifier(project=project, domain=domain, name=name) for project, domain, name in found]
    return NamedEntityIdentifierList(entities=entities, token=plan.next_token(len(found))).SerializeToString()
