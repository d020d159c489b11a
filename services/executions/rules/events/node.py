"""Fold of a node event into a node execution (events.md#createnodeevent)."""

from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.core.execution_pb2 import NodeExecution
from flyteidl.event.event_pb2 import NodeExecutionEvent, WorkflowNodeMetadata

from services.contracts.identifiers import identifier_text
from services.contracts.phases import NODE_TERMINAL
from services.executions.rules.events.data import input_uri, set_result
from services.executions.rules.events.layout import ObjectLayout, closure_bytes
from services.executions.rules.events.state import NodeKey, NodeState, Offloads
from services.executions.rules.events.times import between, check_occurred_at, default_started_at, recorded_at
from services.executions.rules.events.transitions import NODE, TransitionResult
from services.executions.rules.events.verdicts import already_over, check_growth
from services.kit.errors import AlreadyExists

_name = NodeExecution.Phase.Name

# Terminal phases of nodes that did work: skipped and recovered ones took no time, nor does the end node, which only
# collects a workflow's outputs (engine.md#single-task-node).
_WORKED = NODE_TERMINAL - {NodeExecution.SKIPPED, NodeExecution.RECOVERED}
_END_NODE = "end-node"


def check_transition(stored: NodeState, event: NodeExecutionEvent) -> None:
    """Raise AlreadyExists or a typed FailedPrecondition unless the node may enter the event's phase.

    The typed detail names the event's phase, as in flyteadmin (events.md#later-node-events).
    """
    result = NODE[stored.closure.phase, event.phase]
    if result is TransitionResult.AGAIN:
        raise AlreadyExists(f"This phase was already recorded {_name(event.phase)} for {identifier_text(event.id)}")
    if result is TransitionResult.OVER:
        message = f"Invalid phase change from {_name(stored.closure.phase)} to {_name(event.phase)}"
        raise already_over(f"{message} for node execution {identifier_text(event.id)}", _name(event.phase))


def fold_node(
    stored: NodeState, event: NodeExecutionEvent, layout: ObjectLayout, offloads: Offloads, *, created: bool = False
) -> NodeState:
    """Return the node after `event`, which has passed `check_transition`.

    Args:
        stored: The node before it, from `first_state` for its first event.
        event: The event.
        layout: The layout of the object store.
        offloads: Collects the objects to write.
        created: Whether it is the node's first event.

    Raises:
        InvalidArgument: It has no valid occurred_at.
        ResourceExhausted: The closure becomes larger than clients could receive.
    """
    check_occurred_at(event.occurred_at, present=event.HasField("occurred_at"))
    closure = NodeExecutionClosure()
    closure.CopyFrom(stored.closure)
    if created:
        closure.created_at.CopyFrom(event.occurred_at)
    elif event.phase in _WORKED and _END_NODE not in {stored.key.node_id, stored.metadata.spec_node_id}:
        default_started_at(closure)
    _advance(closure, stored.key, event, layout, offloads)
    dynamic_closure_uri = stored.dynamic_closure_uri
    if event.HasField("workflow_node_metadata"):
        _set_child(closure, event.workflow_node_metadata)
    elif event.HasField("task_node_metadata"):
        _merge_task_node_metadata(closure, event)
        dynamic_closure_uri = _dynamic_closure(stored, event, layout, offloads) or dynamic_closure_uri
    metadata = _merged_metadata(stored.metadata, event)
    # There is always space for an error.
    size = closure.ByteSize() - closure.error.ByteSize() + metadata.ByteSize()
    check_growth("node execution", size, stored.closure, stored.metadata)
    return NodeState(
        key=stored.key,
        closure=closure,
        metadata=metadata,
        input_uri=stored.input_uri or input_uri(stored.key, event, layout, offloads),
        dynamic_closure_uri=dynamic_closure_uri,
        event_version=stored.event_version,
        parent_id=stored.parent_id,
        parent_task_id=stored.parent_task_id,
    )


def first_state(
    key: NodeKey, event: NodeExecutionEvent, parent_id: int | None, parent_task_id: int | None
) -> NodeState:
    """Return the node before its first event, with the fields that no later event changes."""
    metadata = NodeExecutionMetaData(retry_group=event.retry_group, spec_node_id=event.spec_node_id)
    return NodeState(
        key=key,
        closure=NodeExecutionClosure(),
        metadata=metadata,
        event_version=event.event_version,
        parent_id=parent_id,
        parent_task_id=parent_task_id,
    )


def _advance(
    closure: NodeExecutionClosure, key: NodeKey, event: NodeExecutionEvent, layout: ObjectLayout, offloads: Offloads
) -> None:
    closure.phase = event.phase
    closure.updated_at.CopyFrom(recorded_at(event.occurred_at, event.reported_at))
    if event.phase == NodeExecution.RUNNING:
        closure.started_at.CopyFrom(event.occurred_at)
        closure.deck_uri = event.deck_uri
    elif event.phase in NODE_TERMINAL:
        if closure.HasField("started_at"):
            closure.duration.CopyFrom(between(closure.started_at, event.occurred_at))
        closure.deck_uri = event.deck_uri
        set_result(closure, key, event, layout, offloads)


def _set_child(closure: NodeExecutionClosure, metadata: WorkflowNodeMetadata) -> None:
    """Set the child execution unless one is set (events.md#later-node-events)."""
    if closure.WhichOneof("target_metadata") == "workflow_node_metadata":
        return
    closure.workflow_node_metadata.SetInParent()
    if metadata.HasField("execution_id"):
        closure.workflow_node_metadata.executionId.CopyFrom(metadata.execution_id)


def _merge_task_node_metadata(closure: NodeExecutionClosure, event: NodeExecutionEvent) -> None:
    """Set the event's checkpoint and, with a catalog key, its cache result (events.md#task-node-metadata).

    An event without them leaves the stored ones; in flyteadmin it erases them.
    """
    metadata = event.task_node_metadata
    stored = closure.task_node_metadata
    stored.SetInParent()
    if metadata.checkpoint_uri:
        stored.checkpoint_uri = metadata.checkpoint_uri
    if metadata.HasField("catalog_key"):
        stored.cache_status = metadata.cache_status
        stored.catalog_key.CopyFrom(metadata.catalog_key)
    if metadata.dynamic_workflow.dynamic_job_spec_uri:
        closure.dynamic_job_spec_uri = metadata.dynamic_workflow.dynamic_job_spec_uri


def _dynamic_closure(stored: NodeState, event: NodeExecutionEvent, layout: ObjectLayout, offloads: Offloads) -> str:
    dynamic = event.task_node_metadata.dynamic_workflow
    if not dynamic.HasField("compiled_workflow"):
        return ""
    data = closure_bytes(dynamic.compiled_workflow)
    return offloads.add(layout.dynamic_closure(stored.key, data), data)


def _merged_metadata(stored: NodeExecutionMetaData, event: NodeExecutionEvent) -> NodeExecutionMetaData:
    if not (event.is_parent or event.is_dynamic or event.is_array or event.is_eager):
        return stored
    return NodeExecutionMetaData(
        retry_group=stored.retry_group,
        spec_node_id=stored.spec_node_id,
        is_parent_node=stored.is_parent_node or event.is_parent,
        is_dynamic=stored.is_dynamic or event.is_dynamic,
        is_array=stored.is_array or event.is_array,
        is_eager=stored.is_eager or event.is_eager,
    )
