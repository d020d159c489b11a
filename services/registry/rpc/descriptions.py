"""Descriptions of tasks and workflows, stored with their registration (registry.md#description-entities)."""

from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.description_entity_pb2 import DescriptionEntityList, DescriptionEntityListRequest
from flyteidl.core.identifier_pb2 import ResourceType

from services.contracts.identifiers import check_complete
from services.kit.db.database import Database
from services.kit.lists.pages import connection_for_page
from services.kit.protobuf.wire import message_field, string_field
from services.kit.rpc.table import Call
from services.registry.lists.pages import list_query
from services.registry.rules.descriptions import check_filterable
from services.registry.rules.errors import entry_not_found
from services.registry.rules.lists import check_id_given
from services.registry.rules.names import check_type_given
from services.registry.store import descriptions as store


class DescriptionHandlers:
    """The RPCs about descriptions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetDescriptionEntity(self, request: ObjectGetRequest, _call: Call) -> bytes:
        """Return the description of a version, of a task if no type is given; raise InvalidArgument, NotFound."""
        if request.HasField("id") and request.id.resource_type == ResourceType.UNSPECIFIED:
            request.id.resource_type = ResourceType.TASK
        check_type_given(request.id.resource_type)
        check_complete(request.id)
        async with self._db.read() as connection:
            description = await store.get(connection, request.id)
        if description is None:
            raise entry_not_found()
        return description

    async def ListDescriptionEntities(self, request: DescriptionEntityListRequest, _call: Call) -> bytes:
        """Return a page of descriptions, of one name or of all; of every type if none is given."""
        check_id_given(request.id if request.HasField("id") else None)
        query = list_query(store.listing_of(request.resource_type), "ListWorkflows", request)
        if query.conditions:
            check_filterable(request.resource_type)
        async with connection_for_page(self._db, query) as connection:
            page = await store.find(connection, query, request.resource_type, request.id)
        field = DescriptionEntityList.DESCRIPTIONENTITIES_FIELD_NUMBER
        descriptions = b"".join(message_field(field, description) for description in page)
        return descriptions + string_field(
            DescriptionEntityList.TOKEN_FIELD_NUMBER, query.next_token(len(page), more=page.more)
        )
