"""Names of tasks, workflows and launch plans: their description and state (registry.md section 9)."""

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
from services.kit.rpc.table import Call
from services.registry.lists.pages import plan_of
from services.registry.rules.lists import check_place_given
from services.registry.rules.missing import no_entry
from services.registry.rules.names import (
    UNLESS_FILTERED,
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
        """Answer a name with its metadata; raises InvalidArgument, NotFound when no version has the name."""
        check_name(request.resource_type, request.id if request.HasField("id") else None)
        check_has_metadata(request.resource_type)
        async with self._db.read() as connection:
            found = await store.get(connection, request.resource_type, request.id)
        if found is None:
            raise no_entry()
        return found

    async def UpdateNamedEntity(self, request: NamedEntityUpdateRequest, _call: Call) -> NamedEntityUpdateResponse:
        """Set the state of a name, and its description unless that is empty. Raises InvalidArgument, NotFound."""
        check_name(request.resource_type, request.id if request.HasField("id") else None)
        check_metadata(request.resource_type, request.metadata if request.HasField("metadata") else None)
        check_has_metadata(request.resource_type)
        now = self._clock()
        async with self._db.read() as connection:
            there = await store.update(connection, request.resource_type, request.id, request.metadata, now)
        if not there:
            raise no_entry()
        return NamedEntityUpdateResponse()

    async def ListNamedEntities(self, request: NamedEntityListRequest, _call: Call) -> NamedEntityList:
        """Answer a page of names with their metadata; generated ones only when there are filters."""
        check_place_given(request.project, request.domain)
        check_type_given(request.resource_type)
        request.filters = request.filters or UNLESS_FILTERED
        plan = plan_of(store.NAMED_ENTITIES, "ListNamedEntities", request)
        check_listed(request.resource_type)
        async with self._db.read() as connection:
            found = await store.find(
                connection, plan, request.resource_type, project=request.project, domain=request.domain
            )
        found.token = plan.next_token(len(found.entities))
        return found
