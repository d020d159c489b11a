"""Inputs and outputs as the data RPCs answer them (executions.md section 6)."""

from dataclasses import dataclass

from flyteidl.admin.common_pb2 import FlyteURLs, UrlBlob
from flyteidl.admin.execution_pb2 import ExecutionClosure, WorkflowExecutionGetDataResponse
from flyteidl.admin.node_execution_pb2 import (
    DynamicNodeWorkflowResponse,
    DynamicWorkflowNodeMetadata,
    NodeExecutionClosure,
    NodeExecutionGetDataResponse,
)
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure, TaskExecutionGetDataResponse
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier, NodeExecutionIdentifier, TaskExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.dataproxy_pb2 import GetDataResponse
from google.protobuf.message import DecodeError

from services.kit.protobuf.wire import message_field, string_field

# Each answer has these four fields; inputs and outputs have other numbers for executions than for nodes and tasks.
Answer = WorkflowExecutionGetDataResponse | NodeExecutionGetDataResponse | TaskExecutionGetDataResponse


@dataclass(frozen=True)
class Location:
    """Where data is: behind a URI, or as values in a closure; neither when there is none."""

    uri: str = ""
    values: LiteralMap | None = None


@dataclass(frozen=True)
class Data:
    """Data as it is answered: where it can be fetched, and a serialized LiteralMap.

    `full` is None when there is data but not here. The engine's recovery takes a map that is present for the whole
    truth, so an empty one in its place would lose outputs (6.3). When the data is gone there is no URL either.
    """

    blob: UrlBlob
    full: bytes | None
    gone: bool = False


GONE = Data(UrlBlob(), None, gone=True)


def execution_outputs(closure: ExecutionClosure) -> Location:
    """Tell where the outputs of an execution are."""
    kind = closure.WhichOneof("output_result")
    if kind == "outputs" and closure.outputs.WhichOneof("data") == "uri":
        return Location(closure.outputs.uri)
    if kind == "outputs" and closure.outputs.WhichOneof("data") == "values":
        return Location(values=closure.outputs.values)
    return Location(values=closure.output_data) if kind == "output_data" else Location()


def outputs(closure: NodeExecutionClosure | TaskExecutionClosure) -> Location:
    """Tell where the outputs of a node or task are."""
    kind = closure.WhichOneof("output_result")
    if kind == "output_uri":
        return Location(closure.output_uri)
    return Location(values=closure.output_data) if kind == "output_data" else Location()


def from_values(values: LiteralMap | None, max_bytes: int) -> Data:
    """Return values that came inside an event, unless they have `max_bytes` or more (0 is no limit)."""
    if values is None:
        return Data(UrlBlob(), b"")
    data = values.SerializeToString()
    return Data(UrlBlob(), data if not max_bytes or len(data) < max_bytes else None)


def answer(kind: type[Answer], inputs: Data, outputs_: Data) -> bytes:
    """Return the fields that the answers of all three data RPCs have in common, serialized as those of `kind`."""
    parts = [
        message_field(kind.INPUTS_FIELD_NUMBER, inputs.blob.SerializeToString()),
        message_field(kind.OUTPUTS_FIELD_NUMBER, outputs_.blob.SerializeToString()),
    ]
    if inputs.full is not None:
        parts.append(message_field(kind.FULL_INPUTS_FIELD_NUMBER, inputs.full))
    if outputs_.full is not None:
        parts.append(message_field(kind.FULL_OUTPUTS_FIELD_NUMBER, outputs_.full))
    return b"".join(parts)


def dynamic_workflow(job_spec_uri: str, content: bytes) -> bytes:
    """Return the part of a serialized NodeExecutionGetDataResponse that describes a dynamic workflow.

    Args:
        job_spec_uri: Of the node's closure.
        content: The serialized closure of the workflow, which becomes part of the response as it is.

    Raises:
        DecodeError: `content` is no CompiledWorkflowClosure, or names no workflow.
    """
    fields = DynamicWorkflowNodeMetadata
    return message_field(
        NodeExecutionGetDataResponse.DYNAMIC_WORKFLOW_FIELD_NUMBER,
        message_field(fields.ID_FIELD_NUMBER, _workflow_id(content).SerializeToString())
        + message_field(fields.COMPILED_WORKFLOW_FIELD_NUMBER, content)
        + string_field(fields.DYNAMIC_JOB_SPEC_URI_FIELD_NUMBER, job_spec_uri),
    )


def dynamic_node_workflow(content: bytes) -> bytes:
    """Return a serialized DynamicNodeWorkflowResponse with `content`; raises DecodeError as `dynamic_workflow`."""
    _workflow_id(content)
    return message_field(DynamicNodeWorkflowResponse.COMPILED_WORKFLOW_FIELD_NUMBER, content)


def literals(content: bytes) -> bytes:
    """Return a serialized LiteralMap as it is; raises DecodeError, as no client could read a response around another.

    In responses it is one level deeper, which parsers count.
    """
    GetDataResponse.FromString(message_field(GetDataResponse.LITERAL_MAP_FIELD_NUMBER, content))
    return content


def node_urls(node: NodeExecutionIdentifier, *, deck: bool) -> FlyteURLs:
    """Return the flyte:// URLs of a node's data (6.6)."""
    base = _base(node)
    return FlyteURLs(inputs=f"{base}/i", outputs=f"{base}/o", deck=f"{base}/d" if deck else "")


def task_urls(task: TaskExecutionIdentifier) -> FlyteURLs:
    """Return the flyte:// URLs of one attempt's data; an attempt never has a deck (6.6)."""
    base = f"{_base(task.node_execution_id)}/{task.retry_attempt}"
    return FlyteURLs(inputs=f"{base}/i", outputs=f"{base}/o")


def _workflow_id(content: bytes) -> Identifier:
    workflow = CompiledWorkflowClosure.FromString(content).primary.template
    if not workflow.HasField("id"):
        raise DecodeError("the stored dynamic workflow has no primary workflow")
    return workflow.id


def _base(node: NodeExecutionIdentifier) -> str:
    execution = node.execution_id
    return f"flyte://v1/{execution.project}/{execution.domain}/{execution.name}/{node.node_id}"
