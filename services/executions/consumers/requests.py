"""Service requests of other services to executions."""

from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue

from services.contracts.applied_batches import TakeReply, decode_request, encode_reply, encode_rows
from services.contracts.executions import GET_DEFAULT_CONFIG, TAKE_APPLIED_BATCHES
from services.executions.store.applied_batches import delete_logged, oldest_batches
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus

# Below the 1 MiB that NATS accepts by default, with room for the head of the reply.
PART_BYTES = 1_000_000
# Reading and framing so many single events delays the batches of the process by some milliseconds.
_MOST_ROWS = 500


class ExecutionRequests:
    """Responses to the service requests in `services.contracts.executions`."""

    def __init__(self, default_config: WorkflowExecutionConfig, events_db: Database) -> None:
        self._default_config = WorkflowExecutionConfig()
        self._default_config.CopyFrom(default_config)
        # flyteadmin shows no environment variables among the defaults (projects.md#platform-defaults).
        self._default_config.ClearField("envs")
        self._events_db = events_db

    async def listen(self, bus: Bus) -> None:
        """Serve the requests from now on."""
        await bus.serve(GET_DEFAULT_CONFIG, self.get_default_config)
        await bus.serve(TAKE_APPLIED_BATCHES, self.take_applied_batches)

    async def get_default_config(self, _request: Empty) -> WorkflowExecutionConfig:
        """Return the default configuration of executions, from the settings."""
        return self._default_config

    async def take_applied_batches(self, message: BytesValue) -> BytesValue:
        """Delete the rows that the caller has logged, and return the oldest ones or the next part of them.

        A row is deleted only when a caller names it, so callers at the same time get the same rows and lose none.
        """
        request = decode_request(message.value)
        await delete_logged(self._events_db, request.logged)
        oldest = await oldest_batches(self._events_db, _MOST_ROWS, PART_BYTES)
        first = oldest.rows[0].id if oldest.rows else 0
        offset = request.offset if request.first == first else 0
        frame = encode_rows(oldest.rows)
        part = frame[offset : offset + PART_BYTES]
        reply = TakeReply(first, offset, size=len(frame), more=oldest.more, part=part)
        return BytesValue(value=encode_reply(reply))
