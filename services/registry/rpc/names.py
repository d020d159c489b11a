"""Names of tasks, workflows and launch plans: their description and state (registry.md#named-entities)."""

from collections.abc import Callable
from datetime import datetime

from flyteidl.admin.common_pb2 import (
    NamedEntity,
    NamedEntityGetRequest,
    NamedEntityList,
    NamedEntityListRequest,
    NamedEntityUpdateRequest,
    NamedEntityUpdateResponse,
)

from services.kit.db.database import Database
from services.kit.lists.pages import connection_for_page
from services.kit.rpc.table import Call
from services.registry.lists.pages import list_query
from services.registry.rules.errors import entry_not_found
from services.registry.rules.lists import check_project_domain_given
from services.registry.rules.names import (
    DEFAULT_FILTERS,
    check_has_metadata,
    check_listed,
    check_metadata,
    check_name,
    check_type_given,
)
from services.registry.store import names as store


class NamedEntityHandlers:
    """The RPCs about names."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock

    async def GetNamedEntity(self, request: NamedEntityGetRequest, _call: Call) -> NamedEntity:
        """Return a name with its metadata; raise InvalidArgument, or NotFound when no version has the name."""
        check_name(request.resource_type, request.id if request.HasField("id") else None)
        check_has_metadata(request.resource_type)
        async with self._db.read() as connection:
            entity = await store.get(connection, request.resource_type, request.id)
        if entity is None:
            raise entry_not_found()
        return entity

    async def UpdateNamedEntity(self, request: NamedEntityUpdateRequest, _call: Call) -> NamedEntityUpdateResponse:
        """Set the state of a name, and its description unless that is empty; raise InvalidArgument, NotFound."""
        check_name(request.resource_type, request.id if request.HasField("id") else None)
        check_metadata(request.resource_type, request.metadata if request.HasField("metadata") else None)
        check_has_metadata(request.resource_type)
        now = self._clock()
        async with self._db.autocommit() as connection:
            exists = await store.update(connection, request.resource_type, request.id, request.metadata, now)
        if not exists:
            raise entry_not_found()
        return NamedEntityUpdateResponse()

    async def ListNamedEntities(self, request: NamedEntityListRequest, _call: Call) -> NamedEntityList:
        """Return a page of names with their metadata; generated ones only when there are filters."""
        check_project_domain_given(request.project, request.domain)
        check_type_given(request.resource_type)
        request.filters = request.filters or DEFAULT_FILTERS
        query = list_query(store.NAMED_ENTITIES, "ListNamedEntities", request)
        check_listed(request.resource_type)
        async with connection_for_page(self._db, query) as connection:
            response = await store.find(
                connection, query, request.resource_type, project=request.project, domain=request.domain
            )
        response.token = query.next_token(len(response.entities))
        return response
