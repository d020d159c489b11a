"""Service requests for projects and the attributes that apply to a scope."""

from collections.abc import Sequence

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration
from flyteidl.admin.project_pb2 import Domain, ProjectGetRequest

from services.contracts.projects import GET_PROJECT, GET_PROJECT_AND_ATTRIBUTES, ProjectAndAttributes
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.projects.rules import projects as rules
from services.projects.store import attributes
from services.projects.store import projects as store


class ProjectRequests:
    """The service requests of `services.contracts.projects`."""

    def __init__(self, db: Database, domains: Sequence[Domain]) -> None:
        self._db = db
        self._domains = rules.domains_suffix(domains)

    async def listen(self, bus: Bus) -> None:
        """Begin to serve the requests."""
        await bus.serve(GET_PROJECT, self.get_project)
        await bus.serve(GET_PROJECT_AND_ATTRIBUTES, self.get_project_and_attributes)

    async def get_project(self, request: ProjectGetRequest) -> bytes:
        """Return the project, archived or not, with every configured domain; raise NotFound, for an empty id too."""
        async with self._db.read() as connection:
            stored = await store.get(connection, request.id)
        if stored is None:
            raise rules.not_found(request.id)
        return stored + self._domains

    async def get_project_and_attributes(self, scope: MatchableAttributesConfiguration) -> ProjectAndAttributes:
        """Return the project as `get_project` does, and every attribute that matches `scope`, most specific first."""
        async with self._db.read() as connection:
            row = await attributes.project_and_matches(connection, scope)
        if row is None:
            raise rules.not_found(scope.project)
        stored, matching = row
        response = ProjectAndAttributes(attributes=matching)
        response.project.ParseFromString(stored + self._domains)
        return response
