"""What the executions service answers and reports.

A fact carries the execution's name only: whoever acts on it reads the rest where it is kept, as it is by then.
"""

from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from google.protobuf.empty_pb2 import Empty

from services.kit.messaging.messages import Announcement, ServiceRequest

GET_DEFAULT_CONFIG = ServiceRequest("ask.executions.get_default_config", Empty, WorkflowExecutionConfig)
"""What executions run with where no request, launch plan or attribute says otherwise, without the environment."""

EXECUTION_CREATED = Announcement("flyte.executions.execution.created", WorkflowExecutionIdentifier)
"""An execution is durable, its inputs too; an engine is to run it. Said again after a crash: run it once."""

EXECUTION_TERMINATED = Announcement("flyte.executions.execution.terminated", WorkflowExecutionIdentifier)
"""Somebody asked to end an execution, which is ABORTING now; its engine is to stop it. Said once for each request."""
