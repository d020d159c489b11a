"""Array nodes: items, parallelism, success criteria, and their one task execution (engine.md#map-tasks)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from flyteidl.core.execution_pb2 import TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.workflow_pb2 import ArrayNode
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent

from deploy.sandbox.engine.graph.execution import Execution
from deploy.sandbox.engine.graph.inputs import Abort, Begin, ChildFinished, TimePassed
from deploy.sandbox.engine.graph.interface import Run, StartTask, TaskKey
from tests.support.engine_graphs import LIST, launch_plan, map_node, run_of, task, workflow
from tests.support.entities import INTEGER, identifier, promise
from tests.support.graph_player import HANGS, Failure, Player, World, labels, played
from tests.support.literals import python_values, to_literals


def map_run(values: list[int], more: Mapping[str, Any] | None = None, **options: Any) -> Run:
    """Return the run of a map of `t` over `values`; the task is registered for lists, as flytekit does."""
    mapped = task("t", {"a": LIST}, {"o0": LIST}, **(more or {}))
    template = workflow(
        "w",
        [map_node("n0", "t", **options)],
        [promise("o0", "n0", "o0")],
        inputs={"n": LIST},
        output_types={"o0": LIST},
    )
    return run_of(template, [mapped], to_literals({"n": values}))


def double(start: StartTask) -> Mapping[str, Any]:
    return {"o0": 2 * start.inputs.literals["a"].scalar.primitive.integer}


def outputs(world: World) -> Any:
    return python_values(world.objects["mem://metadata/propeller/p-d-e/end-node/data/0/outputs.pb"])["o0"]


def task_events(world: World) -> list[TaskExecutionEvent]:
    return [event for event in world.events if isinstance(event, TaskExecutionEvent)]


def test_map_reports_one_task_execution_with_a_resource_for_each_item() -> None:
    world, _ = played(map_run([3, 4, 5]), {"t": double})
    assert outputs(world) == [6, 8, 10]
    nodes = [event for event in world.events if isinstance(event, NodeExecutionEvent) and event.id.node_id == "n0"]
    assert labels(nodes) == ["n0 QUEUED", "n0 RUNNING", "n0 SUCCEEDED"]
    assert all(event.is_array for event in nodes)
    queued, *rounds, ended = task_events(world)
    assert [each.phase for each in queued.metadata.external_resources] == [TaskExecution.UNDEFINED] * 3
    assert [each.index for each in ended.metadata.external_resources] == [0, 1, 2]
    assert {each.phase for each in ended.metadata.external_resources} == {TaskExecution.SUCCEEDED}
    assert [each.phase_version for each in rounds] == list(range(len(rounds)))
    for event in (queued, *rounds, ended):
        assert (event.task_type, event.metadata.plugin_identifier) == ("container_array", "k8s-array")
        assert (event.producer_id, event.HasField("reported_at"), event.retry_attempt) == ("", False, 0)
    assert (bool(queued.input_uri), bool(ended.input_uri)) == (True, False)
    assert queued.metadata.external_resources[1].external_id == "e-n0-0-n1-0"


def test_items_of_a_map_read_the_inputs_of_all_and_know_their_index() -> None:
    world, _ = played(map_run([3, 4]), {"t": double})
    assert [(start.array.index, start.array.size) for start in world.started if start.array] == [(0, 2), (1, 2)]
    assert {start.input_uri for start in world.started} == {"mem://metadata/propeller/p-d-e/n0/data/inputs.pb"}
    assert [start.output_prefix for start in world.started] == [
        "mem://metadata/propeller/p-d-e/n0/data/0/0/0",
        "mem://metadata/propeller/p-d-e/n0/data/0/1/0",
    ]


def test_items_have_inputs_of_their_own_in_individual_mode() -> None:
    world, _ = played(map_run([3, 4], data_mode=ArrayNode.INDIVIDUAL_INPUT_FILES), {"t": double})
    assert [world.objects[start.input_uri] for start in world.started] == [to_literals({"a": 3}), to_literals({"a": 4})]


def test_map_over_an_empty_list_succeeds_without_a_task_execution() -> None:
    world, finish = played(map_run([]), {"t": double})
    assert (finish.phase, outputs(world), task_events(world)) == (WorkflowExecution.SUCCEEDED, [], [])


def test_lists_of_different_lengths_fail() -> None:
    mapped = task("t", {"a": LIST, "b": LIST}, {"o0": LIST})
    array = map_node("n0", "t")
    array.inputs.append(promise("b", "", "m"))
    template = workflow(
        "w", [array], [promise("o0", "n0", "o0")], inputs={"n": LIST, "m": LIST}, output_types={"o0": LIST}
    )
    _, finish = played(run_of(template, [mapped], to_literals({"n": [1], "m": [1, 2]})))
    assert finish.error is not None
    assert finish.error.code == "InvalidArrayLength"


def test_bound_lists_are_the_same_for_all_items() -> None:
    mapped = task("t", {"a": LIST, "b": LIST}, {"o0": LIST})
    array = map_node("n0", "t")
    array.inputs.append(promise("b", "", "m"))
    array.array_node.bound_inputs.append("b")
    template = workflow(
        "w", [array], [promise("o0", "n0", "o0")], inputs={"n": LIST, "m": LIST}, output_types={"o0": LIST}
    )
    run = run_of(template, [mapped], to_literals({"n": [1, 2], "m": [7, 8, 9]}))
    world, _ = played(run, {"t": lambda start: {"o0": len(start.inputs.literals["b"].collection.literals)}})
    assert outputs(world) == [3, 3]


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"min_success_ratio": 0.5}, WorkflowExecution.SUCCEEDED),
        ({"min_successes": 2}, WorkflowExecution.SUCCEEDED),
        ({"min_success_ratio": 0.75}, WorkflowExecution.FAILED),
        ({"min_successes": 3}, WorkflowExecution.FAILED),
        ({}, WorkflowExecution.FAILED),
    ],
)
def test_enough_items_must_succeed(options: Mapping[str, Any], ends: int) -> None:
    def odd_fails(start: StartTask) -> object:
        value = start.inputs.literals["a"].scalar.primitive.integer
        return Failure(message=f"{value} is odd") if value % 2 else {"o0": value}

    world, finish = played(map_run([1, 2, 3, 4], **options), {"t": odd_fails})
    assert finish.phase == ends
    if ends == WorkflowExecution.SUCCEEDED:
        assert outputs(world) == [None, 2, None, 4]
    else:
        assert finish.error is not None
        assert "is odd" in finish.error.message
        assert task_events(world)[-1].phase == TaskExecution.FAILED


def test_ratio_of_a_32_bit_float_is_not_rounded_up() -> None:
    first_succeeds = {"t": lambda start: {"o0": 1} if start.key.index == 0 else Failure()}
    _, finish = played(map_run(list(range(10)), min_success_ratio=0.1), first_succeeds)
    assert finish.phase == WorkflowExecution.SUCCEEDED


def test_failing_map_ends_the_other_items() -> None:
    run = map_run([1, 2, 3])
    world, _ = played(run, {"t": lambda start: Failure() if start.key.index == 1 else HANGS})
    assert world.cancelled == [TaskKey("n0", 0, 0), TaskKey("n0", 0, 2)]
    phases = [each.phase for each in task_events(world)[-1].metadata.external_resources]
    assert phases == [TaskExecution.ABORTED, TaskExecution.FAILED, TaskExecution.ABORTED]


def test_items_are_retried_alone() -> None:
    def fails_once(start: StartTask) -> object:
        return Failure(recoverable=True) if (start.key.index, start.key.attempt) == (1, 0) else double(start)

    run = map_run([1, 2, 3], {"retries": {"retries": 1}})
    world, _ = played(run, {"t": fails_once})
    assert outputs(world) == [2, 4, 6]
    attempts = [(each.key.index, each.key.attempt) for each in world.started]
    assert sorted(attempts) == [(0, 0), (1, 0), (1, 1), (2, 0)]
    last = task_events(world)[-1].metadata.external_resources
    assert [(each.index, each.retry_attempt) for each in last] == [(0, 0), (1, 1), (2, 0)]


@pytest.mark.parametrize("parallelism", [1, 3])
def test_parallelism_bounds_the_items_that_run(parallelism: int) -> None:
    run = map_run(list(range(9)), parallelism=parallelism)
    player = Player(run, World({"t": lambda _: HANGS}))
    player.play_until("n0 RUNNING")
    while player._chains:
        player.play(1)
    assert len(player.world.started) == parallelism


def test_many_short_items_are_few_events() -> None:
    world, _ = played(map_run(list(range(500))), {"t": double})
    assert outputs(world) == [2 * value for value in range(500)]
    # A step of the player takes a millisecond, so all items take some seconds, and a round a quarter of one.
    assert len(task_events(world)) < 40


def test_aborted_map_ends_its_items_and_its_task_execution() -> None:
    player = Player(map_run([1, 2]), World({"t": lambda _: HANGS}))
    player.play_until("n0/0 RUNNING v0")
    player.feed(Abort("enough"))
    assert player.play() is not None
    assert labels(player.world.events)[-3:] == ["n0/0 ABORTED v0", "n0 ABORTED", "ABORTED"]
    assert len(player.world.cancelled) == 2


@pytest.mark.parametrize(("values", "outcome"), [([1, 2], [5, 5]), ([], [])])
def test_map_of_a_launch_plan_has_a_child_for_each_item(values: list[int], outcome: list[int]) -> None:
    array = map_node("n0", "unused")
    array.array_node.node.workflow_node.launchplan_ref.CopyFrom(identifier(ResourceType.LAUNCH_PLAN, "lp"))
    array.array_node.node.inputs[0].var = "n"
    array.array_node.is_original_sub_node_interface.value = True
    array.inputs[0].var = "n"
    template = workflow("w", [array], [promise("o0", "n0", "o0")], inputs={"n": LIST}, output_types={"o0": LIST})
    run = run_of(template, [], to_literals({"n": values}), launch_plans=[launch_plan("lp")])
    done = ChildFinished(TaskKey(""), WorkflowExecution.SUCCEEDED, outputs=to_literals({"o0": 5}))
    world, _ = played(run, children={"lp": done})
    assert outputs(world) == outcome
    last = [each for event in task_events(world)[-1:] for each in event.metadata.external_resources]
    names = [each.workflow_node_metadata.execution_id.name for each in last]
    assert names == [f"e-n0-0-n{index}-0" for index in range(len(values))]


def test_inputs_that_are_no_lists_are_passed_to_every_item() -> None:
    mapped = task("t", {"a": LIST, "b": INTEGER}, {"o0": LIST})
    array = map_node("n0", "t")
    array.inputs.append(promise("b", "", "m"))
    template = workflow(
        "w", [array], [promise("o0", "n0", "o0")], inputs={"n": LIST, "m": INTEGER}, output_types={"o0": LIST}
    )
    run = run_of(template, [mapped], to_literals({"n": [1, 2], "m": 10}))

    def add(start: StartTask) -> Mapping[str, Any]:
        values = python_values(LiteralMap(literals=start.inputs.literals))
        return {"o0": values["a"] + values["b"]}

    world, _ = played(run, {"t": add})
    assert outputs(world) == [11, 12]


def test_large_array_starts_its_items_in_slices() -> None:
    run = map_run(list(range(300)))
    execution = Execution(run)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    begun = [sum(isinstance(action, StartTask) for action in execution.handle(Begin(), at))]
    while execution.wake_at is not None and sum(begun) < len(run.inputs.literals["n"].collection.literals):
        at = max(at, execution.wake_at)
        begun.append(sum(isinstance(action, StartTask) for action in execution.handle(TimePassed(), at)))
    assert sum(begun) == 300
    assert max(begun) <= 20


def test_array_above_the_limit_fails() -> None:
    _, finish = played(map_run([0] * 5001))
    assert finish.error is not None
    assert finish.error.message == "array size > max allowed. requested [5001]. allowed [5000]"
