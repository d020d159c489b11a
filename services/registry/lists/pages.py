"""List requests: their queries, and pages of names."""

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
from services.kit.lists.pages import connection_for_page
from services.kit.lists.query import Listing, ListQuery
from services.registry.store import names

ListRequest = (
    ResourceListRequest | NamedEntityIdentifierListRequest | NamedEntityListRequest | DescriptionEntityListRequest
)


def list_query(listing: Listing, name: str, request: ListRequest) -> ListQuery:
    """Return the query of a list request; raise InvalidArgument.

    Args:
        listing: What the list may filter and sort by.
        name: The name of the list in the error of an invalid token.
        request: A request with limit, token, filters and sort order.
    """
    return listing.query(
        name=name,
        limit=request.limit,
        token=request.token,
        filters=request.filters,
        sort_key=request.sort_by.key if request.HasField("sort_by") else None,
        sort_direction=request.sort_by.direction,
    )


async def names_page(
    db: Database,
    query: ListQuery,
    resource_type: ResourceType,
    request: NamedEntityIdentifierListRequest,
) -> bytes:
    """Read a page of names and return the serialized NamedEntityIdentifierList."""
    async with connection_for_page(db, query) as connection:
        rows = await names.find_ids(connection, query, resource_type, project=request.project, domain=request.domain)
    entities = [NamedEntityIdentifier(project=project, domain=domain, name=name) for project, domain, name in rows]
    return NamedEntityIdentifierList(entities=entities, token=query.next_token(len(rows))).SerializeToString()
