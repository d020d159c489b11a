"""Responses of the data RPCs (executions.md#data-responses)."""

from flyteidl.admin.execution_pb2 import WorkflowExecutionGetDataResponse
from flyteidl.admin.node_execution_pb2 import NodeExecutionGetDataResponse
from flyteidl.admin.task_execution_pb2 import TaskExecutionGetDataResponse

from services.executions.rules.data import Data
from services.kit.protobuf.wire import message_field

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
