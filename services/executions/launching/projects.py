"""What the projects service says of a project and the attributes in it, asked once for launches that come together.

A question is sent when every call that has arrived by then has joined it. So none is answered with what was so before
it came: a project that was archived stops launching at once, and so does an attribute that was deleted stop acting.
"""

import asyncio

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration

from services.contracts.attributes import GET_PROJECT_AND_ATTRIBUTES, ProjectAndAttributes
from services.kit.messaging.bus import Bus


class Projects:
    """Asks for projects and the attributes that match a scope in them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._collecting: dict[bytes, asyncio.Task[ProjectAndAttributes]] = {}

    async def get(self, scope: MatchableAttributesConfiguration) -> ProjectAndAttributes:
        """The project of `scope` and what matches it, as they are now; raises NotFound, Unavailable."""
        key = scope.SerializeToString(deterministic=True)
        question = self._collecting.get(key)
        if question is None:
            question = self._collecting[key] = asyncio.create_task(self._ask(key, scope))
        # Whoever gives up takes the answer from nobody else.
        return await asyncio.shield(question)

    async def _ask(self, key: bytes, scope: MatchableAttributesConfiguration) -> ProjectAndAttributes:
        await asyncio.sleep(0)
        del self._collecting[key]
        return await self._bus.request(GET_PROJECT_AND_ATTRIBUTES, scope)
