"""Questions of other services about executions."""

from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from google.protobuf.empty_pb2 import Empty

from services.contracts.executions import GET_DEFAULT_CONFIG
from services.kit.messaging.bus import Bus


class ExecutionRequests:
    """Answers what `services.contracts.executions` lets others ask; `platform` is the last level of configurations."""

    def __init__(self, platform: WorkflowExecutionConfig) -> None:
        self._config = WorkflowExecutionConfig()
        self._config.CopyFrom(platform)
        # The reference shows no environment where it shows the defaults (projects.md 11).
        self._config.ClearField("envs")

    async def listen(self, bus: Bus) -> None:
        """Answer from now on."""
        await bus.serve(GET_DEFAULT_CONFIG, self.get_default_config)

    async def get_default_config(self, _request: Empty) -> WorkflowExecutionConfig:
        """Answer what the settings say."""
        return self._config
