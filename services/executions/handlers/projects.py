"""What the projects service says of a project, asked once for the launches that come together.

A question is sent when every call that has arrived by then has joined it. So none is answered with what was so before
it came: a project that was archived stops launching at once.
"""

import asyncio

from flyteidl.admin.project_pb2 import Project, ProjectGetRequest

from services.contracts.projects import GET_PROJECT
from services.kit.bus import Bus


class Projects:
    """Asks for projects."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._collecting: dict[str, asyncio.Task[Project]] = {}

    async def get(self, project: str) -> Project:
        """The project as it is now; raises NotFound, Unavailable."""
        question = self._collecting.get(project)
        if question is None:
            question = self._collecting[project] = asyncio.create_task(self._ask(project))
        # Whoever gives up takes the answer from nobody else.
        return await asyncio.shield(question)

    async def _ask(self, project: str) -> Project:
        await asyncio.sleep(0)
        del self._collecting[project]
        return await self._bus.ask(GET_PROJECT, ProjectGetRequest(id=project))
