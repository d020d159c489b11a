"""Service requests of other services to executions."""

from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from google.protobuf.empty_pb2 import Empty

from services.contracts.executions import GET_DEFAULT_CONFIG
from services.kit.messaging.bus import Bus


class ExecutionRequests:
    """Responses to the service requests in `services.contracts.executions`."""

    def __init__(self, default_config: WorkflowExecutionConfig) -> None:
        self._default_config = WorkflowExecutionConfig()
        self._default_config.CopyFrom(default_config)
        # flyteadmin shows no environment variables among the defaults (projects.md#platform-defaults).
        self._default_config.ClearField("envs")

    async def listen(self, bus: Bus) -> None:
        """Serve the requests from now on."""
        await bus.serve(GET_DEFAULT_CONFIG, self.get_default_config)

    async def get_default_config(self, _request: Empty) -> WorkflowExecutionConfig:
        """Return the default configuration of executions, from the settings."""
        return self._default_config
