"""What is launched when an execution is launched again (executions.md section 3).

The stored spec goes in as if a client had sent it, security context and parallelism included: settings that changed
since do not reach a relaunch.
"""

from flyteidl.admin.execution_pb2 import (
    ExecutionCreateRequest,
    ExecutionMetadata,
    ExecutionRecoverRequest,
    ExecutionRelaunchRequest,
    ExecutionSpec,
)
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier


def relaunched(
    source: WorkflowExecutionIdentifier, request: ExecutionRelaunchRequest, spec: ExecutionSpec, inputs: bytes
) -> ExecutionCreateRequest:
    """Return the launch that repeats `source`; whether it ignores the cache is the new request's to say.

    `inputs` is a serialized LiteralMap; raises DecodeError for another message.
    """
    again = _again(source, request.name, spec, inputs, ExecutionMetadata.RELAUNCH)
    again.spec.overwrite_cache = request.overwrite_cache
    return again


def recovered(
    source: WorkflowExecutionIdentifier, request: ExecutionRecoverRequest, spec: ExecutionSpec, inputs: bytes
) -> ExecutionCreateRequest:
    """Return the launch that goes on from `source`, for the parent node of `request`; raises DecodeError as above."""
    again = _again(source, request.name, spec, inputs, ExecutionMetadata.RECOVERED)
    if request.HasField("metadata"):
        again.spec.metadata.ClearField("parent_node_execution")
        if request.metadata.HasField("parent_node_execution"):
            again.spec.metadata.parent_node_execution.CopyFrom(request.metadata.parent_node_execution)
    return again


def _again(
    source: WorkflowExecutionIdentifier,
    name: str,
    spec: ExecutionSpec,
    inputs: bytes,
    mode: ExecutionMetadata.ExecutionMode,
) -> ExecutionCreateRequest:
    again = ExecutionCreateRequest(project=source.project, domain=source.domain, name=name, spec=spec)
    again.inputs.ParseFromString(inputs)
    again.spec.metadata.mode = mode
    again.spec.metadata.reference_execution.CopyFrom(source)
    return again
