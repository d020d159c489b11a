"""The fold of a workflow event into an execution (events.md#producer-check, events.md#workflow-event-effects)."""

from typing import Any

import pytest
from flyteidl.admin.event_pb2 import EventFailureReason
from flyteidl.admin.execution_pb2 import AbortMetadata, ExecutionMetadata, ExecutionSpec
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from google.protobuf.duration_pb2 import Duration

from services.executions.rules.events.state import ExecutionState, Offload, Offloads
from services.executions.rules.events.workflow import fold_workflow, reassigns
from services.kit.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from tests.support.event_makers import INLINE, LAYOUT, VALUES, at, execution_state, workflow_event


def fold(state: ExecutionState, phase: str, when: float | None = 10, **fields: Any) -> ExecutionState:
    return fold_workflow(state, workflow_event(phase, when, **fields), LAYOUT, Offloads())


def test_started_at_is_set_by_running_and_duration_by_the_end() -> None:
    state = fold(fold(execution_state(), "RUNNING", 10), "SUCCEEDED", 12.5, output_uri="s3://out")
    closure = state.closure
    assert (closure.started_at, closure.updated_at) == (at(10), at(12.5))
    assert closure.duration == Duration(seconds=2, nanos=500_000_000)
    assert closure.outputs.uri == "s3://out"


def test_a_clock_set_back_gives_a_negative_duration() -> None:
    state = fold(fold(execution_state(), "RUNNING", 10.25), "SUCCEEDED", 9)
    assert state.closure.duration == Duration(seconds=-1, nanos=-250_000_000)


def test_an_execution_that_never_ran_has_no_duration() -> None:
    state = fold(execution_state("QUEUED"), "FAILED")
    assert not state.closure.HasField("duration")
    assert not state.closure.HasField("started_at")


def test_an_execution_that_succeeds_without_running_started_at_its_creation() -> None:
    stored = execution_state("QUEUED")
    stored.closure.created_at.CopyFrom(at(4))
    closure = fold(stored, "SUCCEEDED", 10).closure
    assert (closure.started_at, closure.duration) == (at(4), Duration(seconds=6))


def test_the_stored_state_is_not_changed() -> None:
    stored = execution_state()
    fold(stored, "RUNNING")
    assert stored == execution_state()


def test_inline_outputs_are_offloaded() -> None:
    offloads = Offloads()
    state = fold_workflow(execution_state("RUNNING"), workflow_event("SUCCEEDED", output_data=VALUES), LAYOUT, offloads)
    assert offloads.objects == [Offload("mem://metadata/p/d/e/offloaded_outputs", VALUES.SerializeToString())]
    assert state.closure.outputs.uri == offloads.objects[0].uri


def test_inline_outputs_stay_in_the_closure_when_so_configured() -> None:
    offloads = Offloads()
    state = fold_workflow(execution_state("RUNNING"), workflow_event("SUCCEEDED", output_data=VALUES), INLINE, offloads)
    assert (state.closure.output_data, offloads.objects) == (VALUES, [])


def test_an_error_is_stored_in_failing_and_failed() -> None:
    error = ExecutionError(code="USER:x", message="no", kind=ExecutionError.USER)
    assert fold(execution_state("RUNNING"), "FAILING", error=error).closure.error == error


def test_the_cause_of_an_abort_stays_after_aborted_but_not_after_a_result() -> None:
    cause = AbortMetadata(cause="enough", principal="me")
    stored = execution_state("ABORTING", abort_metadata=cause)
    assert fold(stored, "ABORTED").closure.abort_metadata == cause
    assert fold(stored, "SUCCEEDED", output_uri="u").closure.WhichOneof("output_result") == "outputs"


@pytest.mark.parametrize(
    ("producer", "cluster", "phase", "passes"),
    [
        ("", "c1", "RUNNING", True),
        ("propeller", "c1", "RUNNING", True),
        ("c1", "c1", "RUNNING", True),
        ("c2", "c1", "RUNNING", False),
        ("c1", "", "RUNNING", False),
        ("c2", "c1", "QUEUED", True),
    ],
)
def test_only_the_assigned_cluster_may_report(producer: str, cluster: str, phase: str, passes: bool) -> None:
    state = execution_state(cluster=cluster)
    if passes:
        fold(state, phase, producer_id=producer)
        return
    with pytest.raises(FailedPrecondition) as raised:
        fold(state, phase, producer_id=producer)
    (detail,) = raised.value.details
    assert isinstance(detail, EventFailureReason)
    assert detail.incompatible_cluster.cluster == producer


def test_a_repeat_of_any_producer_already_exists() -> None:
    with pytest.raises(AlreadyExists):
        fold(execution_state("RUNNING", "c1"), "RUNNING", producer_id="c2")


def test_the_cluster_is_checked_before_a_terminal_phase() -> None:
    with pytest.raises(FailedPrecondition) as raised:
        fold(execution_state("SUCCEEDED", "c1"), "RUNNING", producer_id="c2")
    (detail,) = raised.value.details
    assert isinstance(detail, EventFailureReason)
    assert detail.WhichOneof("reason") == "incompatible_cluster"


def test_queued_reassigns_the_execution() -> None:
    event = workflow_event("QUEUED", producer_id="c2")
    spec = ExecutionSpec(metadata=ExecutionMetadata(principal="me"))
    stored = execution_state(cluster="c1")
    stored = ExecutionState(stored.key, stored.cluster, stored.closure, spec.SerializeToString())
    state = fold_workflow(stored, event, LAYOUT, Offloads())
    after = ExecutionSpec.FromString(state.spec)
    assert reassigns(event)
    assert state.cluster == after.metadata.system_metadata.execution_cluster == "c2"
    assert after.metadata.principal == "me"


@pytest.mark.parametrize("producer", ["", "propeller"])
def test_queued_of_an_unnamed_engine_does_not_reassign_the_execution(producer: str) -> None:
    state = fold(execution_state(cluster="c1"), "QUEUED", producer_id=producer)
    assert state.cluster == "c1"
    assert state.closure.phase == WorkflowExecution.QUEUED


def test_an_event_without_occurred_at_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="occurred_at"):
        fold(execution_state(), "RUNNING", None)
    with pytest.raises(InvalidArgument, match="occurred_at"):
        fold(execution_state(), "RUNNING", 1e13)


@pytest.mark.parametrize(("size", "cut"), [(102_400, False), (102_401, True)])
def test_a_message_of_more_bytes_than_engines_leave_is_cut(size: int, *, cut: bool) -> None:
    for phase in ("FAILING", "FAILED"):
        message = fold(
            execution_state("RUNNING"), phase, error=ExecutionError(message="m" * size)
        ).closure.error.message
        assert ("<Message Truncated>" in message) is cut
        assert message.count("m") == 102_400
