"""Service requests and announcements of the executions service.

An announcement about an execution contains its identifier only: its consumer, the engine dispatcher, reads the rest
from the database of executions, as it is then. Batches of events and their verdicts are in
`services.contracts.event_batches`, what the event log takes in `services.contracts.applied_batches`.
"""

from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc.status_pb2 import Status

from services.kit.messaging.messages import Announcement, ServiceRequest

GET_DEFAULT_CONFIG = ServiceRequest("ask.executions.get_default_config", Empty, WorkflowExecutionConfig)
"""The configuration of executions where no request, launch plan or attribute sets it, without the environment."""

TAKE_APPLIED_BATCHES = ServiceRequest("ask.executions.take_applied_batches", BytesValue, BytesValue)
"""The oldest applied batches, for the event log; deletes those that it has logged. See `applied_batches`."""

EXECUTION_CREATED = Announcement("flyte.executions.execution.created", WorkflowExecutionIdentifier)
"""An execution and its inputs are durable; an engine is to run it. Repeated after a crash: run it once."""

EXECUTION_TERMINATED = Announcement("flyte.executions.execution.terminated", WorkflowExecutionIdentifier)
"""A client terminated an execution, which is ABORTING now; its engine is to stop it. Once for each request."""

EVENT_REFUSED = Announcement("flyte.executions.event.refused", Status)
"""An event was refused for another reason than that it was recorded already: see `event_batches.encode_refusal`."""
