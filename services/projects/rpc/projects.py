"""Projects and their domains (projects.md#project-rpcs)."""

from collections.abc import Callable, Sequence
from datetime import datetime

from flyteidl.admin.project_pb2 import (
    Domain,
    GetDomainRequest,
    GetDomainsResponse,
    Project,
    ProjectGetRequest,
    ProjectListRequest,
    ProjectRegisterRequest,
    ProjectRegisterResponse,
    Projects,
    ProjectUpdateResponse,
)

from services.contracts.authorization.authorizer import Authorizer
from services.contracts.projects import PROJECT_REGISTERED, PROJECT_UPDATED
from services.kit.db.database import Database
from services.kit.lists.pages import connection_for_page
from services.kit.lists.query import MOST_ROWS
from services.kit.messaging.outbox import Outbox
from services.kit.protobuf.wire import message_field, string_field
from services.kit.rpc.table import Call
from services.projects.rules import projects as rules
from services.projects.store import projects as store


class ProjectHandlers:
    """The RPCs about projects.

    Args:
        db: Their database.
        outbox: Takes announcements of changes.
        domains: Those of every project, in the order in which they are returned.
        clock: Returns the time.
        authorizer: Knows which projects a caller sees in lists; None: all.
    """

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        domains: Sequence[Domain],
        clock: Callable[[], datetime],
        authorizer: Authorizer | None = None,
    ) -> None:
        self._db = db
        self._authorizer = authorizer
        self._outbox = outbox
        self._clock = clock
        self._domains_response = GetDomainsResponse(domains=domains)
        self._domains = rules.domains_suffix(domains)

    async def RegisterProject(self, request: ProjectRegisterRequest, _call: Call) -> ProjectRegisterResponse:
        """Add a project in the given state; raise AlreadyExists when its id is in use (projects.md#registerproject)."""
        rules.check_register(request)
        project = rules.stored_project(request.project)
        async with self._db.transaction() as connection:
            if not await store.insert(connection, project, self._clock()):
                raise rules.already_exists()
            await self._outbox.put(connection, PROJECT_REGISTERED, project)
        return ProjectRegisterResponse()

    async def UpdateProject(self, request: Project, _call: Call) -> ProjectUpdateResponse:
        """Change, archive or reactivate a project (projects.md#updateproject).

        Raises:
            NotFound: There is no such project; checked before the change itself.
            InvalidArgument: The change is not allowed.
        """
        rules.check_id_given(request.id)
        async with self._db.transaction() as connection:
            current = await store.lock(connection, request.id)
            if current is None:
                raise rules.not_found(request.id)
            rules.check_project(request)
            project = rules.updated(current, request)
            await store.update(connection, project, self._clock())
            await self._outbox.put(connection, PROJECT_UPDATED, project)
        return ProjectUpdateResponse()

    async def GetProject(self, request: ProjectGetRequest, _call: Call) -> bytes:
        """Return a project, archived or not, with every configured domain; raise NotFound (projects.md#getproject)."""
        rules.check_id_given(request.id)
        async with self._db.read() as connection:
            stored = await store.get(connection, request.id)
        if stored is None:
            raise rules.not_found(request.id)
        return stored + self._domains

    async def ListProjects(self, request: ProjectListRequest, call: Call) -> bytes:
        """Return a page of projects, or up to MOST_ROWS when the limit is 0 (lists.md#listprojects).

        Without filters archived projects are left out, and always those of which the caller may read no domain.
        """
        visible = None if self._authorizer is None else self._authorizer.visible_projects(call.caller)
        query = store.LISTING.query(
            name="ListProjects",
            limit=request.limit or MOST_ROWS,
            token=request.token,
            filters=request.filters,
            sort_key=request.sort_by.key if request.HasField("sort_by") else None,
            sort_direction=request.sort_by.direction,
        )
        async with connection_for_page(self._db, query) as connection:
            page = await store.find(connection, query, visible)
        projects = (message_field(Projects.PROJECTS_FIELD_NUMBER, stored + self._domains) for stored in page)
        return b"".join(projects) + string_field(
            Projects.TOKEN_FIELD_NUMBER, query.next_token(len(page), more=page.more)
        )

    async def GetDomains(self, _request: GetDomainRequest, _call: Call) -> GetDomainsResponse:
        """Return the configured domains in their order; cannot fail (projects.md#getdomains)."""
        return self._domains_response
