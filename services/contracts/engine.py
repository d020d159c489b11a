"""Service requests of executions to an engine that is a process of its own, and what an engine receives.

The engine serves them; executions sends them as the phase of an execution requires (engine.md#calls-to-an-engine). Each
is sent at least once, by any replica, so a repeated one must change nothing.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flyteidl.admin.execution_pb2 import Execution, ExecutionList, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import (
    ClusterResourceAttributes,
    ExecutionQueueAttributes,
    ListMatchableAttributesResponse,
    MatchingAttributes,
    PluginOverride,
    PluginOverrides,
    TaskResourceAttributes,
    WorkflowExecutionConfig,
)
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import BoolValue, BytesValue

from services.kit.errors import InvalidArgument
from services.kit.messaging.messages import ServiceRequest

# An engine stores what it accepts before it responds. Shorter than the time after which the caller gives up.
_DEADLINE_SECONDS = 10.0

_VERSION = 1
_VERSION_HEAD = struct.Struct(">B")
_PART_HEAD = struct.Struct(">I")  # bytes of a part
# Execution, configuration, attributes, URI of the inputs, child queue.
_PARTS = 5

RUN = ServiceRequest("ask.engine.run", BytesValue, Empty, deadline=_DEADLINE_SECONDS)
"""Run an execution, a `RunRequest`; the engine has stored it when it responds."""

STOP = ServiceRequest("ask.engine.stop", WorkflowExecutionIdentifier, BoolValue, deadline=_DEADLINE_SECONDS)
"""End an execution; false when the engine does not have it, so that no event will report its end."""

MISSING = ServiceRequest("ask.engine.missing", ExecutionList, ExecutionList, deadline=_DEADLINE_SECONDS)
"""Those of the executions, by their ids, that the engine does not have."""


@dataclass(frozen=True)
class EngineInputs:
    """Attributes and settings for an execution's tasks, and for the namespace in which they run."""

    task_resources: TaskResourceAttributes
    queue_tags: Sequence[str] = ()
    plugin_overrides: Sequence[PluginOverride] = ()
    cluster_resources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRequest:
    """An execution that an engine is to run.

    `spec` has what acting attributes add to it, and no inputs, which are at `inputs_uri`.
    """

    id: WorkflowExecutionIdentifier
    workflow_id: Identifier
    spec: ExecutionSpec
    config: WorkflowExecutionConfig
    inputs_uri: str
    engine_inputs: EngineInputs
    accepted_at: datetime
    child_queue: str = ""
    """The queue for tasks that tasks make, chosen by the tags among `engine_inputs`; empty for none."""
    cluster: str = ""
    """The id of the cluster, for an engine of several; empty for a single one, and until one is chosen. Engines that
    are asked by requests have a single one."""

    @property
    def namespace(self) -> str:
        """The Kubernetes namespace that was chosen when the execution was created."""
        return self.spec.metadata.system_metadata.namespace


def encode_run(request: RunRequest) -> bytes:
    """Return the bytes of `RUN`'s message."""
    execution = Execution(id=request.id, spec=request.spec)
    execution.closure.workflow_id.CopyFrom(request.workflow_id)
    execution.closure.created_at.FromDatetime(request.accepted_at)
    parts = (
        execution.SerializeToString(),
        request.config.SerializeToString(),
        _attributes(request.engine_inputs).SerializeToString(),
        request.inputs_uri.encode(),
        request.child_queue.encode(),
    )
    return _VERSION_HEAD.pack(_VERSION) + b"".join(_PART_HEAD.pack(len(part)) + part for part in parts)


def decode_run(data: bytes) -> RunRequest:
    """Return what `encode_run` encoded; raise InvalidArgument when it cannot be read."""
    try:
        execution_bytes, config, attributes, inputs_uri, child_queue = _parts(data)
        execution = Execution.FromString(execution_bytes)
        return RunRequest(
            id=execution.id,
            workflow_id=execution.closure.workflow_id,
            spec=execution.spec,
            config=WorkflowExecutionConfig.FromString(config),
            inputs_uri=inputs_uri.decode(),
            engine_inputs=_engine_inputs(ListMatchableAttributesResponse.FromString(attributes)),
            accepted_at=execution.closure.created_at.ToDatetime(UTC),
            child_queue=child_queue.decode(),
        )
    except (struct.error, ValueError, DecodeError) as error:
        raise InvalidArgument(f"a request to run an execution cannot be read: {error}") from error


def _parts(data: bytes) -> list[bytes]:
    (version,) = _VERSION_HEAD.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"its version is {version}")
    position, parts = _VERSION_HEAD.size, []
    for _ in range(_PARTS):
        (length,) = _PART_HEAD.unpack_from(data, position)
        start = position + _PART_HEAD.size
        position = start + length
        if position > len(data):
            raise ValueError("it is cut off")
        parts.append(data[start:position])
    return parts


def _attributes(inputs: EngineInputs) -> ListMatchableAttributesResponse:
    """Return engine inputs in the form in which attributes are stored."""
    matching = (
        MatchingAttributes(task_resource_attributes=inputs.task_resources),
        MatchingAttributes(execution_queue_attributes=ExecutionQueueAttributes(tags=inputs.queue_tags)),
        MatchingAttributes(plugin_overrides=PluginOverrides(overrides=inputs.plugin_overrides)),
        MatchingAttributes(
            cluster_resource_attributes=ClusterResourceAttributes(attributes=dict(inputs.cluster_resources))
        ),
    )
    response = ListMatchableAttributesResponse()
    for attributes in matching:
        response.configurations.add(attributes=attributes)
    return response


def _engine_inputs(response: ListMatchableAttributesResponse) -> EngineInputs:
    resources, queue, plugins, cluster = (item.attributes for item in response.configurations)
    return EngineInputs(
        task_resources=resources.task_resource_attributes,
        queue_tags=tuple(queue.execution_queue_attributes.tags),
        plugin_overrides=tuple(plugins.plugin_overrides.overrides),
        cluster_resources=dict(cluster.cluster_resource_attributes.attributes),
    )
