"""Questions of other services about projects and the attributes that hold in them."""

from collections.abc import Sequence

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration
from flyteidl.admin.project_pb2 import Domain, ProjectGetRequest

from services.contracts.attributes import GET_PROJECT_AND_ATTRIBUTES, ProjectAndAttributes
from services.contracts.projects import GET_PROJECT
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.projects.rules import projects as rules
from services.projects.store import attributes
from services.projects.store import projects as store


class ProjectRequests:
    """Answers what `services.contracts.projects` and `.attributes` let others ask."""

    def __init__(self, db: Database, domains: Sequence[Domain]) -> None:
        self._db = db
        self._domains = rules.domains_suffix(domains)

    async def listen(self, bus: Bus) -> None:
        """Answer from now on."""
        await bus.serve(GET_PROJECT, self.get_project)
        await bus.serve(GET_PROJECT_AND_ATTRIBUTES, self.get_project_and_attributes)

    async def get_project(self, request: ProjectGetRequest) -> bytes:
        """Answer the project, archived or not, with every configured domain; raises NotFound, for an empty id too."""
        async with self._db.read() as connection:
            stored = await store.get(connection, request.id)
        if stored is None:
            raise rules.missing(request.id)
        return stored + self._domains

    async def get_project_and_attributes(self, scope: MatchableAttributesConfiguration) -> ProjectAndAttributes:
        """Answer the project as `get_project` does, and every attribute that matches `scope`, most specific first."""
        async with self._db.read() as connection:
            found = await attributes.project_and_matches(connection, scope)
        if found is None:
            raise rules.missing(scope.project)
        stored, matching = found
        answer = ProjectAndAttributes(attributes=matching)
        answer.project.ParseFromString(stored + self._domains)
        return answer
