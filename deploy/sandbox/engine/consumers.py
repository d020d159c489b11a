"""The service requests of executions to the engine (`services.contracts.engine`)."""

from flyteidl.admin.execution_pb2 import ExecutionList
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BoolValue, BytesValue

from deploy.sandbox.engine.runs import Runs
from services.contracts.engine import MISSING, RUN, STOP, decode_run
from services.kit.errors import Unavailable
from services.kit.messaging.bus import Bus


class EngineRequests:
    """Responses to the requests, by the engine's runs."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def listen(self, bus: Bus) -> None:
        """Serve the requests from now on."""
        await bus.serve(RUN, self.run)
        await bus.serve(STOP, self.stop)
        await bus.serve(MISSING, self.missing)

    async def run(self, message: BytesValue) -> Empty:
        """Accept an execution; raise Unavailable while it cannot be stored."""
        request = decode_run(message.value)
        try:
            self._runs.run(request)
        except OSError as error:
            raise Unavailable(f"the engine cannot store a run: {error.strerror}") from error
        return Empty()

    async def stop(self, identifier: WorkflowExecutionIdentifier) -> BoolValue:
        """Terminate an execution; false when the engine does not have it."""
        return BoolValue(value=await self._runs.stop(identifier))

    async def missing(self, asked: ExecutionList) -> ExecutionList:
        """Return the ids of the executions that the engine does not have."""
        missing = ExecutionList()
        for execution in asked.executions:
            if not self._runs.has(execution.id):
                missing.executions.add(id=execution.id)
        return missing
