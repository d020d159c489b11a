"""Fold a node event into a node execution (events.md 3)."""

from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.core.execution_pb2 import NodeExecution
from flyteidl.event.event_pb2 import NodeExecutionEvent, WorkflowNodeMetadata

from services.contracts.identifiers import identifier_text
from services.contracts.phases import NODE_TERMINAL
from services.executions.rules.events.data import input_uri, keep_result
from services.executions.rules.events.state import NodeKey, NodeState, Offloads
from services.executions.rules.events.storage import Storage, closure_bytes
from services.executions.rules.events.times import between, check_occurred_at, recorded_at, start_unless_known
from services.executions.rules.events.transitions import NODE, Move
from services.executions.rules.events.verdicts import already_over, check_growth
from services.kit.errors import AlreadyExists

_name = NodeExecution.Phase.Name

# Ends of nodes that did something themselves: what was skipped or recovered took no time, and neither does the node
# that only collects a workflow's outputs (events.md 6.2).
_WORKED = NODE_TERMINAL - {NodeExecution.SKIPPED, NodeExecution.RECOVERED}
_END_NODE = "end-node"


def check_move(stored: NodeState, event: NodeExecutionEvent) -> None:
    """Raise AlreadyExists or a typed FailedPrecondition unless the node may take the event's phase (events.md 3.3).

    The typed detail names the event's phase, as the reference has it.
    """
    move = NODE[stored.closure.phase, event.phase]
    if move is Move.AGAIN:
        raise AlreadyExists(f"This phase was already recorded {_name(event.phase)} for {identifier_text(event.id)}")
    if move is Move.OVER:
        message = f"Invalid phase change from {_name(stored.closure.phase)} to {_name(event.phase)}"
        raise already_over(f"{message} for node execution {identifier_text(event.id)}", _name(event.phase))


def fold_node(
    stored: NodeState, event: NodeExecutionEvent, storage: Storage, offloads: Offloads, *, created: bool = False
) -> NodeState:
    """Return the node after `event`, which `check_move` let pass; `created` when it is the first of the node.

    Raises InvalidArgument without a valid occurred_at, ResourceExhausted for more than clients could receive.
    """
    check_occurred_at(event.occurred_at, present=event.HasField("occurred_at"))
    closure = NodeExecutionClosure()
    closure.CopyFrom(stored.closure)
    if created:
        closure.created_at.CopyFrom(event.occurred_at)
    elif event.phase in _WORKED and _END_NODE not in {stored.key.node_id, stored.metadata.spec_node_id}:
        start_unless_known(closure)
    _advance(closure, stored.key, event, storage, offloads)
    dynamic_closure_uri = stored.dynamic_closure_uri
    if event.HasField("workflow_node_metadata"):
        _keep_child(closure, event.workflow_node_metadata)
    elif event.HasField("task_node_metadata"):
        _merge_task_node_metadata(closure, event)
        dynamic_closure_uri = _dynamic_closure(stored, event, storage, offloads) or dynamic_closure_uri
    if event.phase not in NODE_TERMINAL:
        check_growth("node execution", closure.ByteSize(), stored.closure)
    return NodeState(
        key=stored.key,
        closure=closure,
        metadata=_merged_metadata(stored.metadata, event),
        input_uri=stored.input_uri or input_uri(stored.key, event, storage, offloads),
        dynamic_closure_uri=dynamic_closure_uri,
        event_version=stored.event_version,
        parent_id=stored.parent_id,
        parent_task_id=stored.parent_task_id,
    )


def first_state(
    key: NodeKey, event: NodeExecutionEvent, parent_id: int | None, parent_task_id: int | None
) -> NodeState:
    """Return the node before its first event: what no later event changes."""
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
    closure: NodeExecutionClosure, key: NodeKey, event: NodeExecutionEvent, storage: Storage, offloads: Offloads
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
        keep_result(closure, key, event, storage, offloads)


def _keep_child(closure: NodeExecutionClosure, told: WorkflowNodeMetadata) -> None:
    """Take the child execution unless one is known (events.md 3.3)."""
    if closure.WhichOneof("target_metadata") == "workflow_node_metadata":
        return
    closure.workflow_node_metadata.SetInParent()
    if told.HasField("execution_id"):
        closure.workflow_node_metadata.executionId.CopyFrom(told.execution_id)


def _merge_task_node_metadata(closure: NodeExecutionClosure, event: NodeExecutionEvent) -> None:
    """Take the event's checkpoint and, with a catalog key, its cache result (events.md 3.6).

    What an event without them leaves out stays; the reference erases it.
    """
    told = event.task_node_metadata
    kept = closure.task_node_metadata
    kept.SetInParent()
    if told.checkpoint_uri:
        kept.checkpoint_uri = told.checkpoint_uri
    if told.HasField("catalog_key"):
        kept.cache_status = told.cache_status
        kept.catalog_key.CopyFrom(told.catalog_key)
    if told.dynamic_workflow.dynamic_job_spec_uri:
        closure.dynamic_job_spec_uri = told.dynamic_workflow.dynamic_job_spec_uri


def _dynamic_closure(stored: NodeState, event: NodeExecutionEvent, storage: Storage, offloads: Offloads) -> str:
    dynamic = event.task_node_metadata.dynamic_workflow
    if not dynamic.HasField("compiled_workflow"):
        return ""
    data = closure_bytes(dynamic.compiled_workflow)
    return offloads.add(storage.dynamic_closure(stored.key, data), data)


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
