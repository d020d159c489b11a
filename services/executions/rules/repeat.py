"""Launches that repeat an execution (executions.md#relaunchexecution-and-recoverexecution).

The stored spec is used as if a client had sent it, with security context and parallelism, so a later change of settings
has no effect on them.
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
    """Return the request that launches `source` again; `overwrite_cache` is from the new request.

    Raises:
        DecodeError: `inputs` is no serialized LiteralMap.
    """
    again = _again(source, request.name, spec, inputs, ExecutionMetadata.RELAUNCH)
    again.spec.overwrite_cache = request.overwrite_cache
    return again


def recovered(
    source: WorkflowExecutionIdentifier, request: ExecutionRecoverRequest, spec: ExecutionSpec, inputs: bytes
) -> ExecutionCreateRequest:
    """Return the request that recovers `source`; the parent node is from the new request, if it has metadata.

    Raises:
        DecodeError: `inputs` is no serialized LiteralMap.
    """
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
