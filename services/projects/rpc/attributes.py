"""Matchable attributes: set, read and deleted for a project, a domain of it or a workflow.

See projects.md#setting-attributes and projects.md#reading-attributes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from flyteidl.admin.matchable_resource_pb2 import (
    WORKFLOW_EXECUTION_CONFIG,
    ListMatchableAttributesRequest,
    ListMatchableAttributesResponse,
    MatchableAttributesConfiguration,
    MatchingAttributes,
)
from flyteidl.admin.project_attributes_pb2 import (
    ProjectAttributes,
    ProjectAttributesDeleteRequest,
    ProjectAttributesDeleteResponse,
    ProjectAttributesGetRequest,
    ProjectAttributesGetResponse,
    ProjectAttributesUpdateRequest,
    ProjectAttributesUpdateResponse,
)
from flyteidl.admin.project_domain_attributes_pb2 import (
    ProjectDomainAttributes,
    ProjectDomainAttributesDeleteRequest,
    ProjectDomainAttributesDeleteResponse,
    ProjectDomainAttributesGetRequest,
    ProjectDomainAttributesGetResponse,
    ProjectDomainAttributesUpdateRequest,
    ProjectDomainAttributesUpdateResponse,
)
from flyteidl.admin.project_pb2 import Domain, Project
from flyteidl.admin.workflow_attributes_pb2 import (
    WorkflowAttributes,
    WorkflowAttributesDeleteRequest,
    WorkflowAttributesDeleteResponse,
    WorkflowAttributesGetRequest,
    WorkflowAttributesGetResponse,
    WorkflowAttributesUpdateRequest,
    WorkflowAttributesUpdateResponse,
)
from google.protobuf.empty_pb2 import Empty

from services.contracts.execution_config import fill
from services.contracts.executions import GET_DEFAULT_CONFIG
from services.contracts.projects import ATTRIBUTES_DELETED, ATTRIBUTES_UPDATED
from services.kit.db.database import Connection, Database
from services.kit.errors import InvalidArgument
from services.kit.lists.pages import connection_for_long_page
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox
from services.kit.protobuf.wire import message_field
from services.kit.rpc.table import Call
from services.projects.rules import attributes as rules
from services.projects.rules.attributes import Level, Scope
from services.projects.store import attributes as store
from services.projects.store import projects

Updates = ProjectAttributesUpdateRequest | ProjectDomainAttributesUpdateRequest | WorkflowAttributesUpdateRequest


class AttributeHandlers:
    """The RPCs about matchable attributes; `domains` are those of every project."""

    def __init__(
        self, db: Database, bus: Bus, outbox: Outbox, domains: Sequence[Domain], clock: Callable[[], datetime]
    ) -> None:
        self._db = db
        self._bus = bus
        self._outbox = outbox
        self._domains = domains
        self._clock = clock

    async def UpdateProjectAttributes(
        self, request: ProjectAttributesUpdateRequest, _call: Call
    ) -> ProjectAttributesUpdateResponse:
        """Set attributes for a project."""
        await self._update(request, Scope(Level.PROJECT, request.attributes.project))
        return ProjectAttributesUpdateResponse()

    async def UpdateProjectDomainAttributes(
        self, request: ProjectDomainAttributesUpdateRequest, _call: Call
    ) -> ProjectDomainAttributesUpdateResponse:
        """Set attributes for a domain of a project."""
        given = request.attributes
        await self._update(request, Scope(Level.PROJECT_DOMAIN, given.project, given.domain))
        return ProjectDomainAttributesUpdateResponse()

    async def UpdateWorkflowAttributes(
        self, request: WorkflowAttributesUpdateRequest, _call: Call
    ) -> WorkflowAttributesUpdateResponse:
        """Set attributes for a workflow, which need not exist."""
        given = request.attributes
        await self._update(request, Scope(Level.WORKFLOW, given.project, given.domain, given.workflow))
        return WorkflowAttributesUpdateResponse()

    async def GetProjectAttributes(
        self, request: ProjectAttributesGetRequest, _call: Call
    ) -> ProjectAttributesGetResponse:
        """Return what is set for exactly the project, the execution config completed with the platform's defaults."""
        scope, kind = Scope(Level.PROJECT, request.project), request.resource_type
        async with self._db.read() as connection:
            rules.check_read(scope, await self._project(connection, scope))
            attributes = await store.get(connection, scope, kind)
        if kind == WORKFLOW_EXECUTION_CONFIG:
            attributes = attributes or MatchingAttributes()
            defaults = await self._bus.request(GET_DEFAULT_CONFIG, Empty())
            fill(attributes.workflow_execution_config, defaults)
        if attributes is None:
            raise rules.attributes_not_found(scope, kind)
        return ProjectAttributesGetResponse(
            attributes=ProjectAttributes(project=scope.project, matching_attributes=attributes)
        )

    async def GetProjectDomainAttributes(
        self, request: ProjectDomainAttributesGetRequest, _call: Call
    ) -> ProjectDomainAttributesGetResponse:
        """Return the most specific attributes for a domain of a project, with the scope they were set for."""
        scope = Scope(Level.PROJECT_DOMAIN, request.project, request.domain)
        match = await self._match(scope, request.resource_type)
        return ProjectDomainAttributesGetResponse(
            attributes=ProjectDomainAttributes(
                project=match.project, domain=match.domain, matching_attributes=match.attributes
            )
        )

    async def GetWorkflowAttributes(
        self, request: WorkflowAttributesGetRequest, _call: Call
    ) -> WorkflowAttributesGetResponse:
        """Return the most specific attributes for a workflow, with the scope they were set for."""
        scope = Scope(Level.WORKFLOW, request.project, request.domain, request.workflow)
        match = await self._match(scope, request.resource_type)
        return WorkflowAttributesGetResponse(
            attributes=WorkflowAttributes(
                project=match.project,
                domain=match.domain,
                workflow=match.workflow,
                matching_attributes=match.attributes,
            )
        )

    async def DeleteProjectAttributes(
        self, request: ProjectAttributesDeleteRequest, _call: Call
    ) -> ProjectAttributesDeleteResponse:
        """Delete what is set for exactly the project; nothing to delete is no error."""
        await self._delete(Scope(Level.PROJECT, request.project), request.resource_type)
        return ProjectAttributesDeleteResponse()

    async def DeleteProjectDomainAttributes(
        self, request: ProjectDomainAttributesDeleteRequest, _call: Call
    ) -> ProjectDomainAttributesDeleteResponse:
        """Delete what is set for exactly this domain of a project; nothing to delete is no error."""
        await self._delete(Scope(Level.PROJECT_DOMAIN, request.project, request.domain), request.resource_type)
        return ProjectDomainAttributesDeleteResponse()

    async def DeleteWorkflowAttributes(
        self, request: WorkflowAttributesDeleteRequest, _call: Call
    ) -> WorkflowAttributesDeleteResponse:
        """Delete what is set for exactly this workflow; nothing to delete is no error."""
        scope = Scope(Level.WORKFLOW, request.project, request.domain, request.workflow)
        await self._delete(scope, request.resource_type)
        return WorkflowAttributesDeleteResponse()

    async def ListMatchableAttributes(self, request: ListMatchableAttributesRequest, _call: Call) -> bytes:
        """Return all attributes of a kind with their scopes, most specific first.

        Raises:
            InvalidArgument: The kind is unknown.
            ResourceExhausted: They are too large for one response; the list has no pages.
        """
        rules.check_kind_known(request.resource_type)
        async with connection_for_long_page(self._db) as connection:
            rules.check_listable(await store.size_of_kind(connection, request.resource_type))
            configurations = await store.of_kind(connection, request.resource_type)
        field = ListMatchableAttributesResponse.CONFIGURATIONS_FIELD_NUMBER
        return b"".join(message_field(field, configuration) for configuration in configurations)

    async def _update(self, request: Updates, scope: Scope) -> None:
        if not request.HasField("attributes"):
            raise InvalidArgument("missing attributes")
        given = request.attributes
        change = given.matching_attributes if given.HasField("matching_attributes") else None
        async with self._db.transaction() as connection:
            # The lock orders changes in one project: each is merged with the result of the one before.
            rules.check_write(scope, self._with_domains(await projects.lock(connection, scope.project)))
            kind = rules.checked_kind(scope, change)
            merged = rules.merged(await store.get(connection, scope, kind), given.matching_attributes)
            await store.put(connection, scope, kind, merged, self._clock())
            await self._outbox.put(connection, ATTRIBUTES_UPDATED, rules.configuration(scope, merged))

    async def _match(self, scope: Scope, kind: int) -> MatchableAttributesConfiguration:
        async with self._db.read() as connection:
            rules.check_read(scope, await self._project(connection, scope))
            match = await store.match(connection, scope, kind)
        if match is None:
            raise rules.attributes_not_found(scope, kind)
        return match

    async def _delete(self, scope: Scope, kind: int) -> None:
        async with self._db.transaction() as connection:
            rules.check_write(scope, await self._project(connection, scope))
            deleted = await store.delete(connection, scope, kind)
            if deleted is not None:
                await self._outbox.put(connection, ATTRIBUTES_DELETED, rules.configuration(scope, deleted))

    async def _project(self, connection: Connection, scope: Scope) -> Project | None:
        stored = await projects.get(connection, scope.project)
        return None if stored is None else self._with_domains(Project.FromString(stored))

    def _with_domains(self, project: Project | None) -> Project | None:
        if project is not None:
            project.domains.extend(self._domains)
        return project
