"""The events of each kind of node, in their order (engine.md#event-sequences)."""

from typing import Any

import pytest
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl.core.workflow_pb2 import Node
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent
from google.protobuf.duration_pb2 import Duration

from deploy.sandbox.engine.graph.inputs import ChildFinished
from deploy.sandbox.engine.graph.interface import TaskKey
from tests.support.engine_graphs import (
    branch_node,
    launch_plan,
    launch_plan_node,
    node,
    run_of,
    sub_workflow_node,
    task,
    workflow,
)
from tests.support.entities import integer, literals, promise
from tests.support.graph_player import Failure, World, labels, played

BEGIN = ["RUNNING", "start-node SUCCEEDED"]
END = ["end-node QUEUED", "end-node SUCCEEDED", "SUCCEEDING", "SUCCEEDED"]


def task_labels(node_id: str) -> list[str]:
    """Return the events of a task node whose first attempt succeeds."""
    return [
        f"{node_id} QUEUED",
        f"{node_id}/0 QUEUED v0",
        f"{node_id} RUNNING",
        f"{node_id}/0 RUNNING v0",
        f"{node_id}/0 SUCCEEDED v0",
        f"{node_id} SUCCEEDED",
    ]


def node_events(world: World, node_id: str) -> list[NodeExecutionEvent]:
    return [event for event in world.events if isinstance(event, NodeExecutionEvent) and event.id.node_id == node_id]


def test_single_task_node_reports_every_event_of_the_table() -> None:
    world, finish = played(run_of(workflow("w", [node("n0", "t")], [promise("o0", "n0", "o0")]), [task("t")]))
    assert labels(world.events) == [*BEGIN, *task_labels("n0"), *END]
    assert finish.phase == WorkflowExecution.SUCCEEDED
    outputs = world.objects["mem://metadata/propeller/p-d-e/end-node/data/0/outputs.pb"]
    assert outputs == literals(o0=2)


def test_single_task_node_names_its_data() -> None:
    world, _ = played(run_of(workflow("w", [node("n0", "t")], [promise("o0", "n0", "o0")]), [task("t")]))
    start, queued = node_events(world, "start-node")[0], node_events(world, "n0")[0]
    assert (start.input_uri, bool(start.output_uri)) == ("", True)
    assert queued.input_uri.endswith("/n0/data/inputs.pb")
    assert world.objects[queued.input_uri] == literals(a=1)
    ended = node_events(world, "n0")[-1]
    assert ended.output_uri.endswith("/n0/data/0/outputs.pb")
    assert ended.task_node_metadata.checkpoint_uri.endswith("/n0/data/0/_flytecheckpoints")
    attempts = [event for event in world.events if isinstance(event, TaskExecutionEvent)]
    assert {event.metadata.generated_name for event in attempts} == {"e-n0-0"}
    assert attempts[-1].output_uri == ended.output_uri
    assert world.events[-1].output_uri.endswith("/end-node/data/0/outputs.pb")


def test_nodes_start_when_all_that_they_depend_on_have_ended() -> None:
    joined = node("n2", "add", "n0", promise("b", "n1", "o0"))
    template = workflow("w", [joined, node("n0", "t"), node("n1", "t")], [promise("o0", "n2", "o0")])
    add = task("add", {"a": LiteralType(simple=SimpleType.INTEGER), "b": LiteralType(simple=SimpleType.INTEGER)})
    world, _ = played(
        run_of(template, [task("t"), add]),
        {"add": lambda start: {"o0": sum(each.scalar.primitive.integer for each in start.inputs.literals.values())}},
    )
    found = labels(world.events)
    assert found.index("n2 QUEUED") > max(found.index("n0 SUCCEEDED"), found.index("n1 SUCCEEDED"))
    assert world.objects["mem://metadata/propeller/p-d-e/end-node/data/0/outputs.pb"] == literals(o0=4)


def test_sub_workflow_reports_nested_nodes_with_their_parent() -> None:
    inner = workflow("inner", [node("n0", "t")], [promise("o0", "n0", "o0")])
    template = workflow("w", [sub_workflow_node("n0", "inner")], [promise("o0", "n0", "o0")])
    world, _ = played(run_of(template, [task("t")], sub_workflows=[inner]))
    nested = ["n0-0-start-node SUCCEEDED", *task_labels("n0-0-n0"), "n0-0-end-node QUEUED", "n0-0-end-node SUCCEEDED"]
    assert labels(world.events) == [*BEGIN, "n0 QUEUED", "n0 RUNNING", *nested, "n0 SUCCEEDED", *END]
    assert all(event.is_parent for event in node_events(world, "n0"))
    child = node_events(world, "n0-0-n0")[0]
    assert (child.spec_node_id, child.retry_group, child.parent_node_metadata.node_id) == ("n0", "0", "n0")
    assert not child.is_parent


def test_branch_reports_the_chosen_node_below_itself_and_no_other() -> None:
    branch = branch_node("n0", [(5, node("a", "t")), (0, node("b", "t"))], node("c", "t"))
    world, _ = played(run_of(workflow("w", [branch], [promise("o0", "n0", "o0")]), [task("t")]))
    inner = "n0-0-n0-b"
    expected = [*BEGIN, "n0 QUEUED", "n0 RUNNING", *task_labels(inner), "n0 SUCCEEDED", *END]
    assert labels(world.events) == expected
    assert not any(event.is_parent for event in node_events(world, "n0"))
    assert node_events(world, inner)[0].parent_node_metadata.node_id == "n0"
    assert node_events(world, "n0")[-1].output_uri == node_events(world, inner)[-1].output_uri


def test_nested_branches_report_below_each_other() -> None:
    inner = branch_node("b", [(0, node("x", "t"))], "nothing fits")
    world, _ = played(
        run_of(workflow("w", [branch_node("n0", [(0, inner)], "no")], [promise("o0", "n0", "o0")]), [task("t")])
    )
    parents = {
        event.id.node_id: event.parent_node_metadata.node_id
        for event in world.events
        if isinstance(event, NodeExecutionEvent)
    }
    outer = next(name for name, parent in parents.items() if parent == "n0")
    innermost = next(name for name, parent in parents.items() if parent == outer)
    assert labels(node_events(world, innermost)) == [
        f"{innermost} {phase}" for phase in ("QUEUED", "RUNNING", "SUCCEEDED")
    ]


def test_branch_that_chooses_an_error_fails() -> None:
    branch = branch_node("n0", [(5, node("a", "t"))], "too small")
    world, finish = played(run_of(workflow("w", [branch], [promise("o0", "n0", "o0")]), [task("t")]))
    assert labels(world.events) == [*BEGIN, "n0 QUEUED", "n0 FAILED", "FAILING", "FAILED"]
    assert finish.error is not None
    assert (finish.error.code, finish.error.message) == ("UserProvidedError", "too small")


def test_signal_gate_ends_with_the_value_of_the_signal() -> None:
    signal = Node(id="n0")
    signal.gate_node.signal.signal_id = "go"
    signal.gate_node.signal.type.simple = SimpleType.INTEGER
    signal.gate_node.signal.output_variable_name = "o0"
    world, _ = played(
        run_of(workflow("w", [signal, node("n1", "t", "n0")], [promise("o0", "n1", "o0")]), [task("t")]),
        signals={"go": integer(7)},
    )
    expected = [*BEGIN, "n0 QUEUED", "n0 RUNNING", "n0 SUCCEEDED", *task_labels("n1"), *END]
    assert labels(world.events) == expected
    assert world.objects[node_events(world, "n0")[-1].output_uri] == literals(o0=7)


@pytest.mark.parametrize(("approved", "last"), [(True, "SUCCEEDED"), (False, "FAILED")])
def test_approve_gate_ends_with_its_inputs_or_fails(*, approved: bool, last: str) -> None:
    approve = Node(id="n0", inputs=[promise("x", "", "n")])
    approve.gate_node.approve.signal_id = "ok"
    answer = Literal(scalar=Scalar(primitive=Primitive(boolean=approved)))
    world, finish = played(run_of(workflow("w", [approve], [promise("o0", "n0", "x")]), []), signals={"ok": answer})
    assert labels(node_events(world, "n0")) == ["n0 QUEUED", "n0 RUNNING", f"n0 {last}"]
    assert (finish.error.code if finish.error else "") == ("" if approved else "ReceivedRejectSignal")


def test_sleep_gate_ends_after_its_time() -> None:
    sleep = Node(id="n0")
    sleep.gate_node.sleep.duration.CopyFrom(Duration(seconds=90))
    world, _ = played(run_of(workflow("w", [sleep]), []))
    queued, running, ended = node_events(world, "n0")
    assert labels([queued, running, ended]) == ["n0 QUEUED", "n0 RUNNING", "n0 SUCCEEDED"]
    assert 90 <= ended.occurred_at.seconds - running.occurred_at.seconds <= 91
    assert not ended.output_uri


def test_gate_that_waits_longer_than_its_timeout_fails() -> None:
    gate = Node(id="n0", metadata={"timeout": Duration(seconds=3600)})
    gate.gate_node.approve.signal_id = "never"
    world, finish = played(run_of(workflow("w", [gate]), []))
    assert labels(node_events(world, "n0")) == ["n0 QUEUED", "n0 RUNNING", "n0 FAILED"]
    assert finish.error is not None
    assert finish.error.code == "RetriesExhausted|TimeoutExpired"
    assert "task execution timeout [1h0m0s] expired" in finish.error.message


def test_launch_plan_node_runs_when_its_child_exists() -> None:
    plan = launch_plan("lp")
    template = workflow("w", [launch_plan_node("n0", "lp")], [promise("o0", "n0", "o0")])
    done = ChildFinished(TaskKey(""), WorkflowExecution.SUCCEEDED, outputs=literals(o0=9))
    world, _ = played(run_of(template, [], launch_plans=[plan]), children={"lp": done})
    assert labels(world.events) == [*BEGIN, "n0 QUEUED", "n0 RUNNING", "n0 SUCCEEDED", *END]
    queued, running, ended = node_events(world, "n0")
    assert not queued.HasField("workflow_node_metadata")
    assert running.workflow_node_metadata.execution_id.name == "e-n0-0"
    assert world.objects[ended.output_uri] == literals(o0=9)


@pytest.mark.parametrize(
    ("phase", "error", "code"),
    [
        (WorkflowExecution.FAILED, ExecutionError(code="Deep", message="down"), "Deep"),
        (WorkflowExecution.ABORTED, None, "RemoteChildWorkflowExecutionFailed"),
    ],
)
def test_launch_plan_node_fails_with_its_child(phase: Any, error: ExecutionError | None, code: str) -> None:
    template = workflow("w", [launch_plan_node("n0", "lp")], [promise("o0", "n0", "o0")])
    world, finish = played(
        run_of(template, [], launch_plans=[launch_plan("lp")]),
        children={"lp": ChildFinished(TaskKey(""), phase, error=error)},
    )
    assert labels(world.events) == [*BEGIN, "n0 QUEUED", "n0 RUNNING", "n0 FAILED", "FAILING", "FAILED"]
    assert finish.error is not None
    assert finish.error.code == code


def test_retry_is_a_new_attempt_without_a_node_event() -> None:
    results = iter([Failure(recoverable=True), Failure(recoverable=True), {"o0": 5}])
    world, _ = played(
        run_of(workflow("w", [node("n0", "t", retries={"retries": 2})], [promise("o0", "n0", "o0")]), [task("t")]),
        {"t": lambda _: next(results)},
    )
    failed = [
        label
        for attempt in (0, 1)
        for label in (f"n0/{attempt} QUEUED v0", f"n0/{attempt} RUNNING v0", f"n0/{attempt} FAILED v0")
    ]
    failed.insert(1, "n0 RUNNING")
    last = ["n0/2 QUEUED v0", "n0/2 RUNNING v0", "n0/2 SUCCEEDED v0", "n0 SUCCEEDED"]
    assert labels(world.events) == [*BEGIN, "n0 QUEUED", *failed, *last, *END]
    assert [start.previous_checkpoint_prefix.rsplit("/", 2)[-2:] for start in world.started] == [
        [""],
        ["0", "_flytecheckpoints"],
        ["1", "_flytecheckpoints"],
    ]
