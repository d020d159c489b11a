"""What the executions service reports.

A fact carries the execution's name only: whoever acts on it reads the rest where it is kept, as it is by then.
"""

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.kit.messages import Fact

EXECUTION_CREATED = Fact("flyte.executions.execution.created", WorkflowExecutionIdentifier)
"""An execution is durable, its inputs too; an engine is to run it. Said again after a crash: run it once."""

EXECUTION_TERMINATED = Fact("flyte.executions.execution.terminated", WorkflowExecutionIdentifier)
"""Somebody asked to end an execution, which is ABORTING now; its engine is to stop it. Said once for each request."""
