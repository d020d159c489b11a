"""The fold of a node event into a node execution (events.md#createnodeevent)."""

from typing import Any

import pytest
from flyteidl.admin.node_execution_pb2 import NodeExecutionMetaData, WorkflowNodeMetadata
from flyteidl.core.catalog_pb2 import CACHE_HIT, CACHE_POPULATED, CatalogMetadata
from flyteidl.core.compiler_pb2 import CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.event.event_pb2 import DynamicWorkflowNodeMetadata, TaskNodeMetadata
from flyteidl.event.event_pb2 import WorkflowNodeMetadata as EventWorkflowNodeMetadata
from google.protobuf.duration_pb2 import Duration

from services.executions.rules.events.node import first_state, fold_node
from services.executions.rules.events.state import NodeState, Offload, Offloads
from services.kit.errors import InvalidArgument, ResourceExhausted
from tests.support.event_makers import EXECUTION, INLINE, LAYOUT, NODE_KEY, TASK, VALUES, at, node_event


def first(phase: str, when: float | None = 10, **fields: Any) -> NodeState:
    event = node_event(phase, when, **fields)
    return fold_node(first_state(NODE_KEY, event, None, None), event, LAYOUT, Offloads(), created=True)


def fold(state: NodeState, phase: str, when: float = 10, **fields: Any) -> NodeState:
    return fold_node(state, node_event(phase, when, **fields), LAYOUT, Offloads())


def test_the_first_event_creates_the_node() -> None:
    state = first("QUEUED", 10, input_uri="s3://in", retry_group="1", spec_node_id="spec", event_version=1)
    assert (state.closure.created_at, state.closure.updated_at) == (at(10), at(10))
    assert (state.input_uri, state.event_version) == ("s3://in", 1)
    assert state.metadata == NodeExecutionMetaData(retry_group="1", spec_node_id="spec")
    assert not state.closure.HasField("started_at")


def test_updated_at_is_the_time_of_the_report() -> None:
    assert first("QUEUED", 10, reported_at=at(11)).closure.updated_at == at(11)
    assert first("QUEUED", 10, reported_at=at(0)).closure.updated_at == at(10)


def test_a_first_event_may_be_terminal() -> None:
    closure = first("SUCCEEDED", 10, output_uri="s3://out").closure
    assert closure.output_uri == "s3://out"
    assert not closure.HasField("duration")


@pytest.mark.parametrize("before", ["QUEUED", "FAILING", "DYNAMIC_RUNNING"])
@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"])
def test_a_node_that_ends_without_running_started_at_its_creation(before: str, phase: str) -> None:
    closure = fold(first(before, 10), phase, 12.5).closure
    assert closure.started_at == at(10)
    assert closure.duration == Duration(seconds=2, nanos=500_000_000)


@pytest.mark.parametrize(("phase", "spec_node_id"), [("SKIPPED", "n0"), ("RECOVERED", "n0"), ("SUCCEEDED", "end-node")])
def test_a_node_that_did_no_work_has_no_duration(phase: str, spec_node_id: str) -> None:
    closure = fold(first("QUEUED", 10, spec_node_id=spec_node_id), phase, 12).closure
    assert not closure.HasField("started_at")
    assert not closure.HasField("duration")


def test_started_at_is_set_by_running_and_duration_by_the_end() -> None:
    state = fold(fold(first("QUEUED"), "RUNNING", 20, deck_uri="deck"), "SUCCEEDED", 21.5, output_uri="o")
    assert state.closure.started_at == at(20)
    assert state.closure.duration == Duration(seconds=1, nanos=500_000_000)
    assert state.closure.created_at == at(10)


@pytest.mark.parametrize(
    ("phase", "sent", "stored"),
    [
        ("RUNNING", "new", "new"),
        ("RUNNING", "", ""),
        ("FAILED", "", ""),
        ("FAILED", "new", "new"),
        ("FAILING", "", "d"),
    ],
)
def test_the_deck_is_set_by_running_and_by_the_end(phase: str, sent: str, stored: str) -> None:
    state = fold(first("QUEUED"), "RUNNING", deck_uri="d")
    if phase == "RUNNING":
        state = fold(state, "DYNAMIC_RUNNING")
    assert fold(state, phase, deck_uri=sent).closure.deck_uri == stored


def test_an_error_is_stored_in_terminal_phases_only() -> None:
    error = ExecutionError(code="c", kind=ExecutionError.SYSTEM)
    assert not fold(first("RUNNING"), "FAILING", error=error).closure.HasField("error")
    assert fold(first("RUNNING"), "FAILED", error=error).closure.error == error


def test_inputs_are_stored_once_and_even_when_empty() -> None:
    offloads = Offloads()
    event = node_event("QUEUED", input_data={})
    state = fold_node(first_state(NODE_KEY, event, None, None), event, LAYOUT, offloads, created=True)
    assert offloads.objects == [Offload("mem://metadata/p/d/e/n0/offloaded_inputs", b"")]
    assert fold(state, "RUNNING", input_uri="other").input_uri == state.input_uri == offloads.objects[0].uri
    assert fold(first("QUEUED"), "RUNNING", input_uri="later").input_uri == "later"


def test_inline_outputs_are_offloaded_or_stay_in_the_closure() -> None:
    offloads = Offloads()
    event = node_event("SUCCEEDED", output_data=VALUES)
    state = fold_node(first("RUNNING"), event, LAYOUT, offloads)
    assert state.closure.output_uri == offloads.objects[0].uri == "mem://metadata/p/d/e/n0/offloaded_outputs"
    assert fold_node(first("RUNNING"), event, INLINE, Offloads()).closure.output_data == VALUES


def test_a_node_stays_receivable_with_its_error() -> None:
    metadata = TaskNodeMetadata(checkpoint_uri="c" * 3_900_000)
    state = first("RUNNING", task_node_metadata=metadata)
    with pytest.raises(ResourceExhausted, match="message larger than max"):
        fold(state, "SUCCEEDED", deck_uri="d" * 100_000)
    error = ExecutionError(
        message="first" + "x" * 3_900_000 + "last", code="c" * 9_000, error_uri="u", kind=ExecutionError.USER
    )
    closure = fold(state, "FAILED", error=error).closure
    assert closure.error.message.startswith("first")
    assert "<Message Truncated>" in closure.error.message
    assert closure.error.message.endswith("last")
    assert (len(closure.error.code), closure.error.error_uri, closure.error.kind) == (4096, "u", ExecutionError.USER)
    assert closure.ByteSize() < 3_900_000 + 150 * 1024


def test_metadata_of_a_node_counts_towards_its_size() -> None:
    with pytest.raises(ResourceExhausted, match="message larger than max"):
        first("RUNNING", spec_node_id="s" * 2_000_000, deck_uri="d" * 2_000_000)


def test_an_odd_node_id_does_not_escape_its_folder() -> None:
    event = node_event("SUCCEEDED", node="..", output_data=VALUES)
    offloads = Offloads()
    key = NODE_KEY._replace(node_id="..")
    fold_node(first_state(key, event, None, None), event, LAYOUT, offloads, created=True)
    assert "/../" not in offloads.objects[0].uri


def test_flags_are_added_and_retry_group_and_spec_node_id_stay() -> None:
    state = first("QUEUED", retry_group="0", spec_node_id="a", is_array=True, is_eager=True)
    state = fold(state, "RUNNING", retry_group="1", spec_node_id="b", is_parent=True, is_dynamic=True)
    assert state.metadata == NodeExecutionMetaData(
        retry_group="0", spec_node_id="a", is_parent_node=True, is_dynamic=True, is_array=True, is_eager=True
    )


def test_the_child_execution_is_stored_from_the_first_event_on_and_never_replaced() -> None:
    child = EventWorkflowNodeMetadata(execution_id=EXECUTION)
    state = first("RUNNING", workflow_node_metadata=child)
    assert state.closure.workflow_node_metadata == WorkflowNodeMetadata(executionId=EXECUTION)
    other = EventWorkflowNodeMetadata(execution_id={"name": "other"})
    assert fold(state, "SUCCEEDED", workflow_node_metadata=other).closure == fold(state, "SUCCEEDED").closure


def test_a_child_without_an_id_has_no_empty_one() -> None:
    state = first("RUNNING", workflow_node_metadata=EventWorkflowNodeMetadata())
    assert state.closure.workflow_node_metadata == WorkflowNodeMetadata()


def test_one_kind_of_target_replaces_the_other() -> None:
    child = EventWorkflowNodeMetadata(execution_id=EXECUTION)
    state = first("RUNNING", workflow_node_metadata=child)
    state = fold(state, "DYNAMIC_RUNNING", task_node_metadata=TaskNodeMetadata(checkpoint_uri="c"))
    assert state.closure.WhichOneof("target_metadata") == "task_node_metadata"
    state = fold(state, "SUCCEEDED", workflow_node_metadata=child)
    assert state.closure.WhichOneof("target_metadata") == "workflow_node_metadata"


def test_cache_results_stay_after_events_without_them() -> None:
    key = CatalogMetadata(dataset_id=TASK)
    sent = TaskNodeMetadata(cache_status=CACHE_HIT, catalog_key=key, checkpoint_uri="c")
    state = first("RUNNING", task_node_metadata=sent)
    state = fold(state, "SUCCEEDED", task_node_metadata=TaskNodeMetadata(cache_status=CACHE_POPULATED))
    stored = state.closure.task_node_metadata
    assert (stored.cache_status, stored.catalog_key, stored.checkpoint_uri) == (CACHE_HIT, key, "c")


def test_a_cache_status_without_its_key_is_not_stored() -> None:
    state = first("RUNNING", task_node_metadata=TaskNodeMetadata(cache_status=CACHE_POPULATED))
    assert state.closure.task_node_metadata.cache_status == 0
    assert state.closure.HasField("task_node_metadata")


def test_a_dynamic_closure_is_offloaded_by_its_content() -> None:
    def fold_dynamic(name: str) -> tuple[NodeState, list[Offload]]:
        compiled = CompiledWorkflowClosure(primary=CompiledWorkflow(template={"id": {"name": name}}))
        dynamic = DynamicWorkflowNodeMetadata(id=TASK, compiled_workflow=compiled, dynamic_job_spec_uri="spec")
        offloads = Offloads()
        event = node_event("DYNAMIC_RUNNING", task_node_metadata=TaskNodeMetadata(dynamic_workflow=dynamic))
        return fold_node(first("RUNNING"), event, LAYOUT, offloads), offloads.objects

    state, (offload,) = fold_dynamic("a")
    assert state.dynamic_closure_uri == offload.uri
    assert offload.uri.startswith("mem://metadata/admin/p/d/e/n0/")
    assert state.closure.dynamic_job_spec_uri == "spec"
    assert CompiledWorkflowClosure.FromString(offload.data).primary.template.id.name == "a"
    assert fold_dynamic("a")[1] == [offload]
    assert fold_dynamic("b")[1][0].uri != offload.uri
    assert fold(state, "SUCCEEDED").dynamic_closure_uri == offload.uri


def test_an_event_without_occurred_at_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="occurred_at"):
        first("RUNNING", None)
