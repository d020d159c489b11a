"""An engine that is a process of its own and serves the service requests of `services.contracts.engine`."""

from collections.abc import Sequence

from flyteidl.admin.execution_pb2 import ExecutionList
from google.protobuf.wrappers_pb2 import BytesValue

from services.contracts.engine import MISSING, RUN, STOP, RunRequest, encode_run
from services.executions.rules.events.state import execution_key
from services.executions.rules.placements import Placement
from services.kit.messaging.bus import Bus


class RequestedEngine:
    """Sends each call to the engine as a service request; raises Unavailable while no engine serves them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def available(self) -> None:
        """Return at once: a request that no engine serves fails, and is repeated."""

    def choose_cluster(self, _request: RunRequest) -> str:
        """Return the single cluster."""
        return ""

    async def run(self, request: RunRequest) -> None:
        """Run an execution; does nothing for one that the engine already has."""
        await self._bus.request(RUN, BytesValue(value=encode_run(request)))

    async def stop(self, placement: Placement) -> bool:
        """End an execution; return False when the engine does not have it."""
        return (await self._bus.request(STOP, placement.id)).value

    async def missing(self, placements: Sequence[Placement]) -> list[Placement]:
        """Return those of the executions that the engine does not have."""
        request = ExecutionList()
        for placement in placements:
            request.executions.add(id=placement.id)
        reply = await self._bus.request(MISSING, request)
        missing = {execution_key(execution.id) for execution in reply.executions}
        return [placement for placement in placements if execution_key(placement.id) in missing]
