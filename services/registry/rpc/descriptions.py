"""Descriptions of tasks and workflows, kept with their registration (registry.md section 10)."""

from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.description_entity_pb2 import DescriptionEntityList, DescriptionEntityListRequest
from flyteidl.core.identifier_pb2 import ResourceType

from services.contracts.identifiers import check_complete
from services.kit.db.database import Database
from services.kit.protobuf.wire import message_field, string_field
from services.kit.rpc.table import Call
from services.registry.lists.pages import plan_of
from services.registry.rules.descriptions import check_filterable
from services.registry.rules.lists import check_id_given
from services.registry.rules.missing import no_entry
from services.registry.rules.names import check_type_given
from services.registry.store import descriptions as store


class DescriptionHandlers:
    """The RPCs about descriptions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetDescriptionEntity(self, request: ObjectGetRequest, _call: Call) -> bytes:
        """Answer the description of a version, a task's when no type is given. Raises InvalidArgument, NotFound."""
        if request.HasField("id") and request.id.resource_type == ResourceType.UNSPECIFIED:
            request.id.resource_type = ResourceType.TASK
        check_type_given(request.id.resource_type)
        check_complete(request.id)
        async with self._db.read() as connection:
            found = await store.get(connection, request.id)
        if found is None:
            raise no_entry()
        return found

    async def ListDescriptionEntities(self, request: DescriptionEntityListRequest, _call: Call) -> bytes:
        """Answer a page of descriptions, of one name or of all; of every type when none is given."""
        check_id_given(request.id if request.HasField("id") else None)
        plan = plan_of(store.listing_of(request.resource_type), "ListWorkflows", request)
        if plan.conditions:
            check_filterable(request.resource_type)
        async with self._db.read() as connection:
            found = await store.find(connection, plan, request.resource_type, request.id)
        listed = b"".join(message_field(DescriptionEntityList.DESCRIPTIONENTITIES_FIELD_NUMBER, one) for one in found)
        return listed + string_field(
            DescriptionEntityList.TOKEN_FIELD_NUMBER, plan.next_token(len(found), cut=found.cut)
        )
