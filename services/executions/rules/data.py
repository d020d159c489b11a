"""Inputs and outputs: where they are, and what the data RPCs return of them (executions.md#getexecutiondata)."""

from dataclasses import dataclass

from flyteidl.admin.common_pb2 import FlyteURLs, UrlBlob
from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.dataproxy_pb2 import GetDataResponse

from services.kit.protobuf.wire import message_field


@dataclass(frozen=True)
class Location:
    """Where data is: at a URI, or as values in a closure; neither when there is none."""

    uri: str = ""
    values: LiteralMap | None = None


@dataclass(frozen=True)
class Data:
    """Data of a response: the URL to fetch it from, and a serialized LiteralMap.

    `full` is None when there is data that the response does not contain. The engine's recovery takes a present map for
    complete, so an empty one instead would lose outputs (executions.md#presence-of-full-inputs-and-outputs). When the
    data is gone there is no URL either.
    """

    blob: UrlBlob
    full: bytes | None
    gone: bool = False


GONE = Data(UrlBlob(), None, gone=True)


def execution_outputs(closure: ExecutionClosure) -> Location:
    """Return where the outputs of an execution are."""
    kind = closure.WhichOneof("output_result")
    if kind == "outputs" and closure.outputs.WhichOneof("data") == "uri":
        return Location(closure.outputs.uri)
    if kind == "outputs" and closure.outputs.WhichOneof("data") == "values":
        return Location(values=closure.outputs.values)
    return Location(values=closure.output_data) if kind == "output_data" else Location()


def outputs(closure: NodeExecutionClosure | TaskExecutionClosure) -> Location:
    """Return where the outputs of a node or task are."""
    kind = closure.WhichOneof("output_result")
    if kind == "output_uri":
        return Location(closure.output_uri)
    return Location(values=closure.output_data) if kind == "output_data" else Location()


def from_values(values: LiteralMap | None, max_bytes: int) -> Data:
    """Return values that came inline with an event, unless they have `max_bytes` or more (0 is no limit)."""
    if values is None:
        return Data(UrlBlob(), b"")
    data = values.SerializeToString()
    return Data(UrlBlob(), data if not max_bytes or len(data) < max_bytes else None)


def literals(content: bytes) -> bytes:
    """Return `content` if it is a serialized LiteralMap that responses can contain.

    Raises:
        DecodeError: It is none, or no client could parse a response with it: there it is one level deeper.
    """
    GetDataResponse.FromString(message_field(GetDataResponse.LITERAL_MAP_FIELD_NUMBER, content))
    return content


def node_urls(node: NodeExecutionIdentifier, *, deck: bool) -> FlyteURLs:
    """Return the flyte:// URLs of a node's data (executions.md#flyte-urls)."""
    base = _base(node)
    return FlyteURLs(inputs=f"{base}/i", outputs=f"{base}/o", deck=f"{base}/d" if deck else "")


def task_urls(task: TaskExecutionIdentifier) -> FlyteURLs:
    """Return the flyte:// URLs of one attempt's data; an attempt never has a deck (executions.md#flyte-urls)."""
    base = f"{_base(task.node_execution_id)}/{task.retry_attempt}"
    return FlyteURLs(inputs=f"{base}/i", outputs=f"{base}/o")


def _base(node: NodeExecutionIdentifier) -> str:
    execution = node.execution_id
    return f"flyte://v1/{execution.project}/{execution.domain}/{execution.name}/{node.node_id}"
