"""Failures: policies, retries, timeouts, failure nodes, aborts, limits."""

from datetime import timedelta
from typing import Any

import pytest
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.types_pb2 import LiteralType, SimpleType, UnionType
from flyteidl.core.workflow_pb2 import WorkflowMetadata
from flyteidl.event.event_pb2 import NodeExecutionEvent
from google.protobuf.duration_pb2 import Duration

from deploy.sandbox.engine.graph.inputs import Abort, ChildFinished, FailNode, FailRun, TaskWaiting, TimePassed
from deploy.sandbox.engine.graph.interface import Finish, Run, TaskKey
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
from tests.support.entities import INTEGER, promise
from tests.support.graph_player import HANGS, Failure, Player, World, labels, played

NONE = LiteralType(simple=SimpleType.NONE)
ERROR = LiteralType(simple=SimpleType.ERROR)
BOOM = {"boom": lambda _: Failure()}


def two_chains(policy: WorkflowMetadata.OnFailurePolicy = WorkflowMetadata.FAIL_IMMEDIATELY) -> Run:
    """Return a run of a node that fails, one after it, and two in a chain that do not depend on them."""
    nodes = [node("n0", "boom"), node("n1", "t", "n0"), node("n2", "t"), node("n3", "t", "n2")]
    template = workflow("w", nodes, [promise("o0", "n3", "o0")], on_failure=policy)
    return run_of(template, [task("t"), task("boom")])


def ended(world: World, node_id: str) -> str:
    """Return the last phase of a node; "" for one without events."""
    events = [each for each in world.events if isinstance(each, NodeExecutionEvent) and each.id.node_id == node_id]
    return labels(events[-1:])[0].split()[1] if events else ""


def hanging(run: Run, *reported: str) -> Player:
    """Return a player whose tasks never end, after these events."""
    player = Player(run, World({each.template.id.name: lambda _: HANGS for each in run.closure.tasks}))
    player.play_until(*reported)
    return player


def test_failure_ends_the_task_the_node_and_the_workflow() -> None:
    world, finish = played(
        run_of(workflow("w", [node("n0", "boom")], [promise("o0", "n0", "o0")]), [task("boom")]), BOOM
    )
    assert labels(world.events)[-5:] == ["n0/0 RUNNING v0", "n0/0 FAILED v0", "n0 FAILED", "FAILING", "FAILED"]
    assert finish.error == ExecutionError(code="USER:Boom", message="boom", kind=ExecutionError.USER)


def test_first_failure_aborts_the_others() -> None:
    world, _ = played(two_chains(), {"t": lambda _: HANGS, **BOOM})
    found = labels(world.events)
    assert found[found.index("n0 FAILED") :] == ["n0 FAILED", "FAILING", "n2/0 ABORTED v0", "n2 ABORTED", "FAILED"]
    assert world.cancelled == [TaskKey("n2")]
    assert (ended(world, "n1"), ended(world, "n3")) == ("", "")


def test_late_failure_runs_what_does_not_depend_on_it_and_skips_the_rest() -> None:
    world, finish = played(two_chains(WorkflowMetadata.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE), BOOM)
    phases = {name: ended(world, name) for name in ("n0", "n1", "n2", "n3", "end-node")}
    assert phases == {
        "n0": "FAILED",
        "n1": "SKIPPED",
        "n2": "SUCCEEDED",
        "n3": "SUCCEEDED",
        "end-node": "SKIPPED",
    }
    assert labels(world.events)[-2:] == ["FAILING", "FAILED"]
    assert finish.error is not None
    assert finish.error.code == "USER:Boom"


def test_retries_of_the_user_are_exhausted_with_the_last_error() -> None:
    run = run_of(workflow("w", [node("n0", "t", retries={"retries": 1})], [promise("o0", "n0", "o0")]), [task("t")])
    world, finish = played(run, {"t": lambda _: Failure(recoverable=True)})
    assert len(world.started) == 2
    assert finish.error is not None
    assert finish.error.code == "RetriesExhausted|USER:Boom"
    assert finish.error.message == "[2/2] currentAttempt done. Last Error: USER::boom"


def test_failures_of_the_system_do_not_use_up_the_retries_of_the_user() -> None:
    system = Failure(recoverable=True, kind=ExecutionError.SYSTEM)
    results = iter([system, system, system, Failure(recoverable=True), {"o0": 1}])
    run = run_of(workflow("w", [node("n0", "t", retries={"retries": 1})], [promise("o0", "n0", "o0")]), [task("t")])
    world, finish = played(run, {"t": lambda _: next(results)})
    assert len(world.started) == 5
    assert finish.phase == WorkflowExecution.SUCCEEDED


def test_failures_of_the_system_end_after_three_retries() -> None:
    run = run_of(workflow("w", [node("n0", "t")], [promise("o0", "n0", "o0")]), [task("t")])
    world, finish = played(run, {"t": lambda _: Failure(recoverable=True, kind=ExecutionError.SYSTEM)})
    assert len(world.started) == 4
    assert finish.error is not None
    assert finish.error.message.startswith("[3/3] currentAttempt done. Last Error: SYSTEM::")


def test_last_attempt_after_failures_of_the_system_is_not_interruptible() -> None:
    run = run_of(workflow("w", [node("n0", "t", interruptible=True)], [promise("o0", "n0", "o0")]), [task("t")])
    world, _ = played(run, {"t": lambda _: Failure(recoverable=True, kind=ExecutionError.SYSTEM)})
    assert [start.interruptible for start in world.started] == [True, True, False, False]


def test_timeout_ends_the_attempt_and_the_next_one_starts() -> None:
    metadata: dict[str, Any] = {"timeout": Duration(seconds=5), "retries": {"retries": 1}}
    run = run_of(workflow("w", [node("n0", "t", **metadata)], [promise("o0", "n0", "o0")]), [task("t")])
    results = iter([HANGS, {"o0": 1}])
    world, finish = played(run, {"t": lambda _: next(results)})
    found = labels(world.events)
    assert "n0/0 ABORTED v0" in found
    assert "n0/1 SUCCEEDED v0" in found
    assert finish.phase == WorkflowExecution.SUCCEEDED
    assert world.cancelled == [TaskKey("n0", 0)]


def test_timeout_without_retries_fails_the_node() -> None:
    run = run_of(
        workflow("w", [node("n0", "t", timeout=Duration(seconds=5))], [promise("o0", "n0", "o0")]), [task("t")]
    )
    _, finish = played(run, {"t": lambda _: HANGS})
    assert finish.error is not None
    assert finish.error.code == "RetriesExhausted|TimeoutExpired"
    assert "task execution timeout [5s] expired" in finish.error.message


def test_node_that_is_active_twice_its_timeout_is_timed_out() -> None:
    metadata: dict[str, Any] = {"timeout": Duration(seconds=5), "retries": {"retries": 9}}
    run = run_of(workflow("w", [node("n0", "t", **metadata)], [promise("o0", "n0", "o0")]), [task("t")])
    world, finish = played(run, {"t": lambda _: HANGS})
    assert ended(world, "n0") == "TIMED_OUT"
    assert finish.error is not None
    assert finish.error.code == "Timeout"


def test_failure_node_receives_the_error_and_the_inputs() -> None:
    optional = LiteralType(union_type=UnionType(variants=[ERROR, NONE]))
    clean_up = task("clean", {"a": INTEGER, "err": optional}, {})
    template = workflow("w", [node("n0", "boom")], [promise("o0", "n0", "o0")], failure_node=node("efn", "clean"))
    world, finish = played(run_of(template, [task("boom"), clean_up]), {"clean": lambda _: {}, **BOOM})
    found = labels(world.events)
    expected = [
        "n0 FAILED",
        "FAILING",
        "FAILING",
        "efn QUEUED",
        "efn/0 QUEUED v0",
        "efn RUNNING",
        "efn/0 RUNNING v0",
        "efn/0 SUCCEEDED v0",
        "efn SUCCEEDED",
        "FAILED",
    ]
    assert found[found.index("n0 FAILED") :] == expected
    given = world.started[-1].inputs.literals
    assert given["a"].scalar.primitive.integer == 1
    error = given["err"].scalar.union.value.scalar.error
    assert (error.failed_node_id, error.message) == ("n0", "boom")
    assert given["err"].scalar.union.type == ERROR
    assert finish.error is not None
    assert finish.error.code == "USER:Boom"


def test_error_of_the_failure_node_replaces_that_of_the_workflow() -> None:
    template = workflow("w", [node("n0", "boom")], [promise("o0", "n0", "o0")], failure_node=node("efn", "t"))
    _, finish = played(run_of(template, [task("boom"), task("t")]), {"t": lambda _: Failure(code="Worse"), **BOOM})
    assert finish.error is not None
    assert finish.error.code == "Worse"


def test_failure_of_a_sub_workflow_aborts_its_nodes_and_fails_its_node() -> None:
    inner = workflow("inner", [node("n0", "boom"), node("n1", "t")], [promise("o0", "n0", "o0")])
    template = workflow("w", [sub_workflow_node("n0", "inner")], [promise("o0", "n0", "o0")])
    run = run_of(template, [task("t"), task("boom")], sub_workflows=[inner])
    world, finish = played(run, {"t": lambda _: HANGS, **BOOM})
    found = labels(world.events)
    expected = ["n0-0-n0 FAILED", "n0-0-n1/0 ABORTED v0", "n0-0-n1 ABORTED", "n0 FAILED", "FAILING", "FAILED"]
    assert found[found.index("n0-0-n0 FAILED") :] == expected
    assert finish.error is not None
    assert finish.error.code == "USER:Boom"


def test_failure_node_of_a_sub_workflow_runs_below_it() -> None:
    inner = workflow("inner", [node("n0", "boom")], [promise("o0", "n0", "o0")], failure_node=node("efn", "t"))
    template = workflow("w", [sub_workflow_node("n0", "inner")], [promise("o0", "n0", "o0")])
    world, _ = played(run_of(template, [task("t"), task("boom")], sub_workflows=[inner]), BOOM)
    found = labels(world.events)
    assert found.index("n0-0-efn SUCCEEDED") < found.index("n0 FAILED")


def test_failure_inside_a_branch_fails_the_branch() -> None:
    branch = branch_node("n0", [(0, node("a", "boom"))], "no")
    world, _ = played(run_of(workflow("w", [branch], [promise("o0", "n0", "o0")]), [task("boom")]), BOOM)
    assert labels(world.events)[-4:] == ["n0-0-n0-a FAILED", "n0 FAILED", "FAILING", "FAILED"]


def test_abort_ends_attempts_then_nodes_then_the_workflow() -> None:
    player = hanging(two_chains(), "n0/0 RUNNING v0", "n2/0 RUNNING v0")
    player.feed(Abort("enough"))
    assert isinstance(player.play(), Finish)
    world = player.world
    expected = ["n0/0 ABORTED v0", "n0 ABORTED", "n2/0 ABORTED v0", "n2 ABORTED", "ABORTED"]
    assert labels(world.events)[-5:] == expected
    assert world.cancelled == [TaskKey("n0"), TaskKey("n2")]
    aborted = [each for each in world.events if isinstance(each, NodeExecutionEvent)][-1]
    assert (aborted.error.code, aborted.error.message) == ("NodeAborted", "enough")


def test_abort_before_the_beginning_reports_nothing_but_the_end() -> None:
    run = two_chains()
    player = Player(run, World({}))
    player.feed(Abort("enough"))
    assert player.play() == Finish(WorkflowExecution.ABORTED)
    assert labels(player.world.events) == ["ABORTED"]


def test_abort_terminates_children() -> None:
    template = workflow("w", [launch_plan_node("n0", "lp")], [promise("o0", "n0", "o0")])
    run = run_of(template, [], launch_plans=[launch_plan("lp")])
    running = ChildFinished(TaskKey(""), WorkflowExecution.SUCCEEDED)
    player = Player(run, World({}, children={"lp": running}))
    player.play_until("n0 RUNNING")
    player.feed(Abort("enough"))
    assert player.play() is not None
    assert [each.child.name for each in player.world.stopped] == ["e-n0-0"]


def test_late_results_of_an_ended_execution_change_nothing() -> None:
    player = hanging(two_chains(), "n0/0 RUNNING v0", "n2/0 RUNNING v0")
    player.feed(Abort("enough"))
    player.play()
    before = labels(player.world.events)
    player.feed(TaskWaiting(TaskKey("n0"), "late"))
    player.feed(Abort("again"))
    assert labels(player.world.events) == before
    assert player.execution.outstanding() == [Finish(WorkflowExecution.ABORTED)]
    assert player.execution.wake_at is None


def test_node_whose_event_is_refused_fails() -> None:
    player = hanging(two_chains(), "n0/0 RUNNING v0", "n2/0 RUNNING v0")
    player.feed(FailNode("n2", ExecutionError(code="NodeFailed", message="too large", kind=ExecutionError.USER)))
    finish = player.play()
    assert finish is not None
    assert finish.error is not None
    assert finish.error.code == "NodeFailed"
    assert ended(player.world, "n0") == "ABORTED"


def test_run_that_cannot_go_on_fails_without_its_failure_node() -> None:
    template = workflow("w", [node("n0", "t")], [promise("o0", "n0", "o0")], failure_node=node("efn", "t"))
    player = hanging(run_of(template, [task("t")]), "n0/0 RUNNING v0")
    player.feed(FailRun(ExecutionError(code="ExecutionNotFound", message="gone")))
    finish = player.play()
    assert finish is not None
    assert finish.phase == WorkflowExecution.FAILED
    assert labels(player.world.events)[-3:] == ["n0/0 ABORTED v0", "n0 ABORTED", "FAILED"]


@pytest.mark.parametrize("most", [1, 2])
def test_max_parallelism_bounds_the_nodes_that_run(most: int) -> None:
    nodes = [node(f"n{number}", "t") for number in range(5)]
    template = workflow("w", nodes, [promise("o0", "n0", "o0")])
    run = run_of(template, [task("t")], config=WorkflowExecutionConfig(max_parallelism=most))
    world, _ = played(run)
    running: set[str] = set()
    for event in world.events:
        if isinstance(event, NodeExecutionEvent) and event.id.node_id.startswith("n"):
            (running.discard if event.output_uri else running.add)(event.id.node_id)
            assert len(running) <= most
    assert len(world.started) == 5


def test_missing_output_fails_the_node_that_needs_it() -> None:
    template = workflow("w", [node("n0", "t"), node("n1", "t", "n0")], [promise("o0", "n1", "o0")])
    world, finish = played(run_of(template, [task("t")]), {"t": lambda _: {}})
    assert ended(world, "n1") == "FAILED"
    assert finish.error is not None
    assert finish.error.code == "BindingResolutionFailure"


def test_waiting_for_the_machine_between_attempts_does_not_count_towards_the_timeouts() -> None:
    metadata: dict[str, Any] = {"timeout": Duration(seconds=5), "retries": {"retries": 1}}
    run = run_of(workflow("w", [node("n0", "t", **metadata)]), [task("t")])
    player = Player(run, World({"t": lambda _: HANGS}))
    player.play_until("n0/0 RUNNING v0")
    player.at += timedelta(seconds=5)
    player.feed(TimePassed())  # the first attempt has taken all of its time
    player.at += timedelta(hours=1)
    player.feed(TaskWaiting(TaskKey("n0", 1), "waiting for 1 of 2 cores"))
    assert player.execution.wake_at is None
    player.play_until("n0/1 RUNNING v0")
    assert player.execution.wake_at is not None
    assert player.execution.wake_at - player.at == pytest.approx(timedelta(seconds=5), abs=timedelta(seconds=0.1))
