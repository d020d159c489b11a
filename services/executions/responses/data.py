"""Responses of the data RPCs (executions.md#data-responses)."""

from flyteidl.admin.execution_pb2 import WorkflowExecutionGetDataResponse
from flyteidl.admin.node_execution_pb2 import (
    DynamicNodeWorkflowResponse,
    DynamicWorkflowNodeMetadata,
    NodeExecutionGetDataResponse,
)
from flyteidl.admin.task_execution_pb2 import TaskExecutionGetDataResponse
from flyteidl.core.compiler_pb2 import CompiledWorkflow, CompiledWorkflowClosure
from google.protobuf.message import DecodeError

from services.executions.rules.data import Data
from services.kit.protobuf.wire import message_field, string_field

# Each has the fields inputs, outputs, full_inputs and full_outputs; their numbers differ between executions and the
# other two.
DataResponse = WorkflowExecutionGetDataResponse | NodeExecutionGetDataResponse | TaskExecutionGetDataResponse


def data_fields(kind: type[DataResponse], inputs: Data, outputs: Data) -> bytes:
    """Return the four fields that all data responses have, serialized as those of `kind`."""
    parts = [
        message_field(kind.INPUTS_FIELD_NUMBER, inputs.blob.SerializeToString()),
        message_field(kind.OUTPUTS_FIELD_NUMBER, outputs.blob.SerializeToString()),
    ]
    if inputs.full is not None:
        parts.append(message_field(kind.FULL_INPUTS_FIELD_NUMBER, inputs.full))
    if outputs.full is not None:
        parts.append(message_field(kind.FULL_OUTPUTS_FIELD_NUMBER, outputs.full))
    return b"".join(parts)


def dynamic_workflow(job_spec_uri: str, content: bytes) -> bytes:
    """Return the field of a serialized NodeExecutionGetDataResponse that describes a dynamic workflow.

    See executions.md#dynamic-workflow-of-a-node.

    Args:
        job_spec_uri: The `dynamic_job_spec_uri` of the node's closure.
        content: The serialized closure of the workflow, which becomes part of the response unchanged.

    Raises:
        DecodeError: `content` is no CompiledWorkflowClosure, or has no primary workflow.
    """
    fields = DynamicWorkflowNodeMetadata
    template = _primary(content).template
    identifier = (
        message_field(fields.ID_FIELD_NUMBER, template.id.SerializeToString()) if template.HasField("id") else b""
    )
    return message_field(
        NodeExecutionGetDataResponse.DYNAMIC_WORKFLOW_FIELD_NUMBER,
        identifier
        + message_field(fields.COMPILED_WORKFLOW_FIELD_NUMBER, content)
        + string_field(fields.DYNAMIC_JOB_SPEC_URI_FIELD_NUMBER, job_spec_uri),
    )


def dynamic_node_workflow(content: bytes) -> bytes:
    """Return a serialized DynamicNodeWorkflowResponse with `content`; raises DecodeError as `dynamic_workflow`."""
    _primary(content)
    return message_field(DynamicNodeWorkflowResponse.COMPILED_WORKFLOW_FIELD_NUMBER, content)


def _primary(content: bytes) -> CompiledWorkflow:
    closure = CompiledWorkflowClosure.FromString(content)
    if not closure.HasField("primary"):
        raise DecodeError("the stored dynamic workflow has no primary workflow")
    return closure.primary
