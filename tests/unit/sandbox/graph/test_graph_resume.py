"""Generated graphs: order, limits, determinism, and resumption after the death of the engine at any point."""

from random import Random
from typing import Any

import pytest
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import NodeExecution, WorkflowExecution
from flyteidl.core.workflow_pb2 import Node, WorkflowMetadata
from flyteidl.event.event_pb2 import NodeExecutionEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.sandbox.engine.graph.inputs import Begin, ChildFinished, Done
from deploy.sandbox.engine.graph.interface import Emit, Run, StartTask, TaskKey
from deploy.sandbox.engine.graph.journal import line, read_line, resume
from deploy.sandbox.engine.graph.node import TERMINAL
from tests.support.engine_graphs import (
    branch_node,
    constant,
    futures,
    launch_plan,
    launch_plan_node,
    node,
    run_of,
    sub_workflow_node,
    task,
    workflow,
)
from tests.support.entities import literals, promise
from tests.support.graph_player import Failure, Player, World, labels, plus_one

EXAMPLES = 40
MOST_NODES = 9


def any_node(pick: Random, node_id: str, earlier: list[str]) -> Node:
    """Return a node of any kind after one of the earlier ones, or after the start."""
    source = pick.choice(["", *earlier])
    kind = pick.choice(["task", "task", "task", "sub", "plan", "branch", "dynamic", "cached", "flaky"])
    if kind == "sub":
        return sub_workflow_node(node_id, "inner", source)
    if kind == "plan":
        return launch_plan_node(node_id, "lp", source)
    if kind == "branch":
        return branch_node(node_id, [(3, node("x", "t")), (0, node("y", "cached"))], node("z", "t"), source)
    if kind == "flaky":
        return node(node_id, "flaky", source, retries={"retries": 2})
    return node(node_id, {"task": "t", "dynamic": "make", "cached": "cached"}[kind], source)


def any_run(pick: Random) -> Run:
    """Return a run of a generated workflow, whose output is that of its last node."""
    nodes: list[Node] = []
    for number in range(pick.randint(1, MOST_NODES)):
        nodes.append(any_node(pick, f"n{number}", [each.id for each in nodes]))
    inner = workflow(
        "inner", [node("n0", "t"), node("n1", "flaky", "n0", retries={"retries": 2})], [promise("o0", "n1", "o0")]
    )
    output = [promise("o0", nodes[-1].id, "o0")]
    pick.shuffle(nodes)
    tasks = [task("t"), task("make"), task("flaky"), task("cached", discoverable=True, discovery_version="1")]
    return run_of(
        workflow("w", nodes, output, on_failure=pick.choice([0, 1])),
        tasks,
        {"n": pick.randint(-2, 6)},
        sub_workflows=[inner],
        launch_plans=[launch_plan("lp")],
        config=WorkflowExecutionConfig(max_parallelism=pick.choice([0, 0, 1, 2, 3])),
    )


def make(start: StartTask) -> Any:
    """Return two nodes to run."""
    first = node("dn0", "t")
    first.inputs[0].CopyFrom(constant("a", start.inputs.literals["a"].scalar.primitive.integer))
    return futures([first, node("dn1", "t", "dn0")], [promise("o0", "dn1", "o0")], [task("t")])


def flaky(start: StartTask) -> Any:
    """Fail once."""
    return Failure(recoverable=True) if start.key.attempt == 0 else plus_one(start)


def world_of(*, broken: int = -1) -> World:
    """Return a world in which the attempt of this number, in the order of their starts, fails for good."""
    started = iter(range(1_000_000))

    def task_function(start: StartTask) -> Any:
        return Failure() if next(started) == broken else plus_one(start)

    done = ChildFinished(TaskKey(""), WorkflowExecution.SUCCEEDED, outputs=literals(o0=2))
    functions = {"t": task_function, "make": make, "flaky": flaky, "cached": plus_one}
    return World(functions, children={"lp": done})


def check_order(world: World) -> None:
    """Check that parents are reported before their children, and that nothing follows the end of a node."""
    ended: set[str] = set()
    known = {""}
    for event in world.events:
        if isinstance(event, NodeExecutionEvent):
            assert event.parent_node_metadata.node_id in known
            assert event.id.node_id not in ended
            known.add(event.id.node_id)
            if event.phase in TERMINAL:
                ended.add(event.id.node_id)
    assert ended == known - {""}


def result_of(world: World) -> Any:
    return world.objects.get("mem://metadata/propeller/p-d-e/end-node/data/0/outputs.pb")


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), st.integers(-1, 12))
def test_generated_graphs_end_and_every_event_is_accepted(seed: int, broken: int) -> None:
    pick = Random(seed)  # noqa: S311  # a reproducible choice
    run, world = any_run(pick), world_of(broken=broken)
    finish = Player(run, world, pick).play()
    assert finish is not None
    failed = any(isinstance(each, NodeExecutionEvent) and each.phase == NodeExecution.FAILED for each in world.events)
    assert finish.phase == (WorkflowExecution.FAILED if failed else WorkflowExecution.SUCCEEDED)
    assert labels(world.events)[-1] == WorkflowExecution.Phase.Name(finish.phase)
    assert world.repeated == 0
    check_order(world)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32))
def test_outputs_do_not_depend_on_the_order_in_which_tasks_end(seed: int) -> None:
    first, second = world_of(), world_of()
    Player(any_run(Random(seed)), first).play()  # noqa: S311
    Player(any_run(Random(seed)), second, Random(seed + 1)).play()  # noqa: S311
    assert result_of(first) == result_of(second)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), st.integers(-1, 12), st.lists(st.integers(1, 60), max_size=4))
def test_killed_engines_resume_without_running_anything_twice(seed: int, broken: int, lives: list[int]) -> None:
    pick = Random(seed)  # noqa: S311
    run, world = any_run(pick), world_of(broken=broken)
    for steps in lives:
        if Player(run, world, pick).play(steps) is not None:
            break
    finish = Player(run, world, pick).play()
    assert finish is not None
    keys = [start.key for start in world.started]
    assert len(keys) == len(set(keys))
    # Only the events that were sent when an engine died may be sent twice.
    assert world.repeated <= len(lives)
    assert labels(world.events)[-1] == WorkflowExecution.Phase.Name(finish.phase)
    if broken == -1:
        whole = world_of()
        Player(run, whole).play()
        assert result_of(world) == result_of(whole)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 90))
def test_runs_that_begin_anew_run_nothing_twice_that_has_ended(seed: int, steps: int) -> None:
    pick = Random(seed)  # noqa: S311
    run, world = any_run(pick), world_of()
    Player(run, world, pick).play(steps)
    world.journal.clear()
    finish = Player(run, world, pick, again=True).play()
    assert finish is not None
    assert finish.phase == WorkflowExecution.SUCCEEDED
    keys = [start.key for start in world.started]
    assert len(keys) == len(set(keys))
    phases = {key.node_id: state.closure.phase for key, state in world.memory.rows.nodes.items()}
    assert set(phases.values()) <= TERMINAL


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32))
def test_replay_of_a_journal_gives_the_same_actions(seed: int) -> None:
    pick = Random(seed)  # noqa: S311
    run, world = any_run(pick), world_of()
    player = Player(run, world, pick)
    player.play(40)
    execution, outstanding = resume(run, [read_line(text) for text in world.journal])
    assert list(outstanding) == player.execution.outstanding()
    assert execution.wake_at == player.execution.wake_at


def test_events_that_were_sent_are_not_sent_again() -> None:
    run = run_of(workflow("w", [node("n0", "t")], [promise("o0", "n0", "o0")]), [task("t")])
    player = Player(run, world_of())
    player.play_until("n0/0 RUNNING v0")
    sent = len(player.world.events)
    _, outstanding = resume(run, [read_line(text) for text in player.world.journal])
    again = [each.number for each in outstanding if isinstance(each, Emit)]
    inputs = [read_line(text)[1] for text in player.world.journal]
    done = {each.number for each in inputs if isinstance(each, Done)}
    assert not done & set(again)
    assert len(again) <= 1
    assert sent > 5


@pytest.mark.parametrize("text", ["", "{", '{"at":"2026-01-01T00:00:00+00:00","inp'])
def test_line_that_ends_in_the_middle_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_line(text)


def test_lines_of_all_inputs_are_read_as_they_were_written() -> None:
    world = world_of(broken=3)
    run = any_run(Random(7))  # noqa: S311
    Player(run, world).play()
    assert {type(read_line(text)[1]).__name__ for text in world.journal} >= {"Begin", "Done", "TaskFinished"}
    for text in world.journal:
        at, received = read_line(text)
        assert line(received, at) == text
    assert read_line(world.journal[0])[1] == Begin()


def test_late_policy_is_generated_too() -> None:
    policies = {any_run(Random(seed)).closure.primary.template.metadata.on_failure for seed in range(20)}  # noqa: S311
    assert policies == {
        WorkflowMetadata.FAIL_IMMEDIATELY,
        WorkflowMetadata.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE,
    }
