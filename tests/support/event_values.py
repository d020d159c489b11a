"""Random fields of events other than phases, from small alphabets (see `event_histories`)."""

from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

from flyteidl.core.catalog_pb2 import CatalogCacheStatus, CatalogMetadata
from flyteidl.core.compiler_pb2 import CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.execution_pb2 import ExecutionError, LogContext, TaskExecution, TaskLog
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive, Scalar
from flyteidl.event.event_pb2 import (
    DynamicWorkflowNodeMetadata,
    EventReason,
    ExternalResourceInfo,
    NodeExecutionEvent,
    ResourcePoolInfo,
    TaskExecutionEvent,
    TaskExecutionMetadata,
    TaskNodeMetadata,
    WorkflowExecutionEvent,
    WorkflowNodeMetadata,
)
from google.protobuf.struct_pb2 import Struct

from tests.support.event_makers import TASK, VALUES, at

MAX_OUTPUT_BYTES = 100
"""The limit of inline outputs for which histories are made."""

Chosen = TypeVar("Chosen")

# Members that are null delete, those that are structs merge, the rest replaces.
_INFOS: tuple[dict[str, Any], ...] = (
    {},
    {"a": 1},
    {"a": None},
    {"a": {"b": 1, "c": [1, 2]}},
    {"a": {"b": None, "d": {"e": None}}},
    {"a": {"c": [3]}, "z": "text"},
)
_LOGS = tuple(
    TaskLog(uri=uri, name=name, ShowWhilePending=pending, HideOnceFinished=hide)
    for uri, name in (("u1", "x"), ("u2", "x"), ("u2", "y"), ("u3", ""), ("u4", ""))
    for pending, hide in ((False, False), (True, False), (False, True))
)
_INDEXES = (0, 1, 7, 8, 9, 30)
_SUBTASKS = (0, 1, 2, 3, 10)
_REASONS = ("", "pulling", "started")


def inputs(pick: Random, event: NodeExecutionEvent | TaskExecutionEvent) -> None:
    """Set no inputs, inputs by reference, or inline ones, which may be empty."""
    kind = pick.randrange(6)
    if kind == 1:
        event.input_uri = pick.choice(("in", "other in"))
    elif kind == 2:
        event.input_data.CopyFrom(pick.choice((VALUES, LiteralMap())))


def result(pick: Random, event: WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent) -> None:
    """Set outputs by reference or inline, an error, or neither, in every phase."""
    kind = pick.randrange(6)
    if kind == 1:
        event.output_uri = pick.choice(("out", "other out", ""))
    elif kind == 2:
        event.output_data.CopyFrom(pick.choice((VALUES, LiteralMap())))
    elif kind == 3:
        event.error.CopyFrom(ExecutionError(code=pick.choice(("c", "")), message="m"))
        event.error.kind = pick.choice((*ExecutionError.ErrorKind.values(), 9))  # type: ignore[assignment]  # 9: of a newer engine


def too_much(event: WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent) -> None:
    """Set outputs beyond the limit."""
    literal = Literal(scalar=Scalar(primitive=Primitive(string_value="x" * MAX_OUTPUT_BYTES)))
    event.output_data.literals["x"].CopyFrom(literal)


def target(pick: Random, event: NodeExecutionEvent, execution: WorkflowExecutionIdentifier) -> None:
    """Set the target of the node: a task, which may be dynamic, or another execution."""
    kind = pick.randrange(6)
    if kind == 1:
        event.task_node_metadata.CopyFrom(_task_node(pick))
    elif kind == 2:
        child = WorkflowExecutionIdentifier(project="p", domain="d", name=pick.choice(("gone", execution.name)))
        event.workflow_node_metadata.CopyFrom(
            pick.choice((WorkflowNodeMetadata(execution_id=child), WorkflowNodeMetadata()))
        )


def task_details(pick: Random, event: TaskExecutionEvent) -> None:
    """Set the fields that accumulate over the events of an attempt."""
    event.logs.extend(_logs(pick))
    event.reason = pick.choice(_REASONS)
    for number in range(pick.choice((0, 0, 0, 1, 2))):
        event.reasons.append(
            EventReason(reason=pick.choice(_REASONS), occurred_at=at(number) if pick.randrange(4) else None)
        )
    if pick.randrange(3) == 0:
        event.custom_info.CopyFrom(_info(pick))
    if pick.randrange(3) == 0:
        event.metadata.CopyFrom(_metadata(pick))
    if pick.randrange(6) == 0:
        event.log_context.CopyFrom(LogContext(primary_pod_name=pick.choice(("pod", "other pod"))))


def _task_node(pick: Random) -> TaskNodeMetadata:
    metadata = TaskNodeMetadata(
        checkpoint_uri=pick.choice(("", "checkpoint", "other checkpoint")),
        cache_status=pick.choice(CatalogCacheStatus.keys()),
    )
    if pick.randrange(2):
        metadata.catalog_key.CopyFrom(CatalogMetadata(dataset_id=TASK))
    if pick.randrange(3) == 0:
        metadata.dynamic_workflow.CopyFrom(
            DynamicWorkflowNodeMetadata(id=TASK, dynamic_job_spec_uri=pick.choice(("", "spec", "other spec")))
        )
        if pick.randrange(2):
            compiled = CompiledWorkflow(template={"id": {"name": pick.choice(("made", "made again"))}})
            metadata.dynamic_workflow.compiled_workflow.CopyFrom(CompiledWorkflowClosure(primary=compiled))
    return metadata


def _metadata(pick: Random) -> TaskExecutionMetadata:
    """Return the metadata of a map task's round: few or many subtasks, near and far, none twice, in any order."""
    keys = [(index, attempt) for index in _INDEXES for attempt in range(2)]
    return TaskExecutionMetadata(
        generated_name=pick.choice(("", "g", "h")),
        plugin_identifier=pick.choice(("", "k8s-array")),
        instance_class=pick.choice(TaskExecutionMetadata.InstanceClass.keys()),
        resource_pool_info=[ResourcePoolInfo(namespace=name) for name in _some(pick, ("a", "b"))],
        external_resources=[_resource(pick, *key) for key in pick.sample(keys, pick.choice(_SUBTASKS))],
    )


def _resource(pick: Random, index: int, attempt: int) -> ExternalResourceInfo:
    resource = ExternalResourceInfo(
        index=index,
        retry_attempt=attempt,
        external_id=pick.choice(("", "pod", "other pod")),
        phase=pick.choice(TaskExecution.Phase.keys()),
        cache_status=pick.choice(CatalogCacheStatus.keys()),
        logs=_logs(pick),
    )
    if pick.randrange(4) == 0:
        resource.custom_info.CopyFrom(_info(pick))
    if pick.randrange(8) == 0:
        resource.log_context.CopyFrom(LogContext(primary_pod_name=pick.choice(("pod", "other pod"))))
    if pick.randrange(8) == 0:
        child = WorkflowExecutionIdentifier(name=pick.choice(("child", "other child")))
        resource.workflow_node_metadata.execution_id.CopyFrom(child)
    return resource


def _logs(pick: Random) -> list[TaskLog]:
    return _some(pick, _LOGS) if pick.randrange(3) == 0 else []


def _info(pick: Random) -> Struct:
    info = Struct()
    info.update(pick.choice(_INFOS))
    return info


def _some(pick: Random, values: Sequence[Chosen]) -> list[Chosen]:
    """Return a few of `values`, none twice, in any order."""
    return pick.sample(values, pick.randrange(min(len(values), 3) + 1))
