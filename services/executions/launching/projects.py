"""Service requests for a project and its attributes; concurrent launches share one.

Calls that arrive before a request is sent share it; it is sent at the next turn of the event loop. Later calls start
another one, so no call gets a state from before its arrival: after a project is archived nothing is launched in it, and
a deleted attribute no longer acts.
"""

import asyncio

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration

from services.contracts.projects import GET_PROJECT_AND_ATTRIBUTES, ProjectAndAttributes
from services.kit.messaging.bus import Bus


class Projects:
    """A client of the projects service that shares requests."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._collecting: dict[bytes, asyncio.Task[ProjectAndAttributes]] = {}

    async def get(self, scope: MatchableAttributesConfiguration) -> ProjectAndAttributes:
        """Return the current project and matching attributes of an attribute scope; raises NotFound, Unavailable."""
        key = scope.SerializeToString(deterministic=True)
        request = self._collecting.get(key)
        if request is None:
            request = self._collecting[key] = asyncio.create_task(self._request(key, scope))
        # A cancelled call must not cancel the request of the others.
        return await asyncio.shield(request)

    async def _request(self, key: bytes, scope: MatchableAttributesConfiguration) -> ProjectAndAttributes:
        await asyncio.sleep(0)
        del self._collecting[key]
        return await self._bus.request(GET_PROJECT_AND_ATTRIBUTES, scope)
