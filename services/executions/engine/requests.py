"""An engine that is a process of its own and serves the service requests of `services.contracts.engine`."""

from collections.abc import Sequence

from flyteidl.admin.execution_pb2 import ExecutionList
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from google.protobuf.wrappers_pb2 import BytesValue

from services.contracts.engine import MISSING, RUN, STOP, RunRequest, encode_run
from services.kit.messaging.bus import Bus


class RequestedEngine:
    """Sends each call to the engine as a service request; raises Unavailable while no engine serves them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def run(self, request: RunRequest) -> None:
        """Run an execution; does nothing for one that the engine already has."""
        await self._bus.request(RUN, BytesValue(value=encode_run(request)))

    async def stop(self, execution: WorkflowExecutionIdentifier) -> bool:
        """End an execution; return False when the engine does not have it."""
        return (await self._bus.request(STOP, execution)).value

    async def missing(self, executions: Sequence[WorkflowExecutionIdentifier]) -> list[WorkflowExecutionIdentifier]:
        """Return those of `executions` that the engine does not have."""
        request = ExecutionList()
        for execution in executions:
            request.executions.add(id=execution)
        reply = await self._bus.request(MISSING, request)
        return [execution.id for execution in reply.executions]
