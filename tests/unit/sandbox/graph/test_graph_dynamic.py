"""Dynamic nodes: compilation, nested nodes, failures, retries (engine.md#dynamic-nodes)."""

from collections.abc import Iterator
from typing import Any

from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import NodeExecution, WorkflowExecution
from flyteidl.event.event_pb2 import NodeExecutionEvent

from deploy.sandbox.engine.graph.inputs import Abort, ChildFinished
from deploy.sandbox.engine.graph.interface import Run, StartTask, TaskKey
from tests.support.engine_graphs import (
    constant,
    futures,
    launch_plan,
    launch_plan_node,
    node,
    run_of,
    task,
    workflow,
)
from tests.support.entities import literals, promise
from tests.support.graph_player import HANGS, Failure, Player, World, labels, played, plus_one


def dynamic_run(**metadata: Any) -> Run:
    template = workflow("w", [node("n0", "make", **metadata)], [promise("o0", "n0", "o0")])
    return run_of(template, [task("make")])


def chain_of_two(_: StartTask) -> DynamicJobSpec:
    """Return two nodes, the second after the first, whose last output is the output."""
    first = node("dn0", "t")
    first.inputs[0].CopyFrom(constant("a", 10))
    return futures([first, node("dn1", "t", "dn0")], [promise("o0", "dn1", "o0")], [task("t")])


def of_node(world: World, node_id: str) -> list[NodeExecutionEvent]:
    return [each for each in world.events if isinstance(each, NodeExecutionEvent) and each.id.node_id == node_id]


def test_dynamic_node_reports_its_workflow_and_nested_nodes() -> None:
    world, _ = played(dynamic_run(), {"make": chain_of_two, "t": plus_one})
    own = ["n0 QUEUED", "n0/0 QUEUED v0", "n0 RUNNING", "n0/0 RUNNING v0", "n0/0 SUCCEEDED v0", "n0 DYNAMIC_RUNNING"]
    found = labels(world.events)
    assert found[2 : 2 + len(own)] == own
    nested = found[2 + len(own) : found.index("n0 SUCCEEDED")]
    assert nested[0] == "n0-0-start-node SUCCEEDED"
    assert nested[-2:] == ["n0-0-end-node QUEUED", "n0-0-end-node SUCCEEDED"]
    assert [each for each in nested if each.endswith(" SUCCEEDED") and "dn" in each] == [
        "n0-0-dn0 SUCCEEDED",
        "n0-0-dn1 SUCCEEDED",
    ]
    assert world.objects["mem://metadata/propeller/p-d-e/end-node/data/0/outputs.pb"] == literals(o0=12)


def test_dynamic_running_has_the_compiled_closure() -> None:
    world, _ = played(dynamic_run(), {"make": chain_of_two, "t": plus_one})
    queued, _, running, ended = of_node(world, "n0")
    dynamic = running.task_node_metadata.dynamic_workflow
    assert (queued.is_dynamic, running.is_dynamic, running.is_parent, ended.is_dynamic) == (False, True, True, True)
    assert dynamic.dynamic_job_spec_uri == "mem://metadata/propeller/p-d-e/n0/data/0/futures.pb"
    assert dynamic.id == dynamic.compiled_workflow.primary.template.id
    assert dynamic.id.name == "dynamic_n0"
    assert [each.id for each in dynamic.compiled_workflow.primary.template.nodes] == [
        "start-node",
        "end-node",
        "dn0",
        "dn1",
    ]
    assert all(each.is_in_dynamic_chain for each in of_node(world, "n0-0-dn0"))


def test_dynamic_workflow_of_an_attempt_always_has_the_same_version() -> None:
    versions = set()
    for _ in range(2):
        world, _ = played(dynamic_run(), {"make": chain_of_two, "t": plus_one})
        versions.add(of_node(world, "n0")[2].task_node_metadata.dynamic_workflow.id.version)
    assert len(versions) == 1


def test_task_that_returns_no_workflow_fails_its_node() -> None:
    broken = futures([node("dn0", "unknown")], [promise("o0", "dn0", "o0")], [])
    world, finish = played(dynamic_run(), {"make": lambda _: broken})
    assert of_node(world, "n0")[-1].phase == NodeExecution.FAILED
    assert finish.error is not None
    assert finish.error.code == "DynamicWorkflowBuildFailed"
    assert "unknown" in finish.error.message


def test_failure_of_a_nested_node_fails_the_node_without_another_attempt() -> None:
    world, finish = played(
        dynamic_run(retries={"retries": 3}), {"make": chain_of_two, "t": lambda _: Failure(code="Deep")}
    )
    found = labels(world.events)
    assert found[-4:] == ["n0-0-dn0 FAILED", "n0 FAILED", "FAILING", "FAILED"]
    assert [start.template.id.name for start in world.started] == ["make", "t"]
    assert finish.error is not None
    assert finish.error.code == "Deep"


def test_second_attempt_has_nodes_of_its_own() -> None:
    results: Iterator[object] = iter([Failure(recoverable=True), chain_of_two])

    def make(start: StartTask) -> object:
        outcome = next(results)
        return outcome(start) if callable(outcome) else outcome

    world, _ = played(dynamic_run(retries={"retries": 1}), {"make": make, "t": plus_one})
    assert "n0-1-dn1 SUCCEEDED" in labels(world.events)
    assert of_node(world, "n0-1-dn0")[0].retry_group == "1"


def test_launch_plans_of_a_dynamic_workflow_are_read_first() -> None:
    plan_node = launch_plan_node("dn0", "lp")
    plan_node.inputs[0].CopyFrom(constant("n", 3))
    made = futures([plan_node], [promise("o0", "dn0", "o0")], [])
    done = ChildFinished(TaskKey(""), WorkflowExecution.SUCCEEDED, outputs=literals(o0=4))
    world, _ = played(dynamic_run(), {"make": lambda _: made}, launch_plans=[launch_plan("lp")], children={"lp": done})
    assert "n0-0-dn0 SUCCEEDED" in labels(world.events)
    _, missing = played(dynamic_run(), {"make": lambda _: made}, children={"lp": done})
    assert missing.error is not None
    assert missing.error.code == "DynamicWorkflowBuildFailed"


def test_dynamic_node_inside_a_dynamic_node() -> None:
    inner = node("dn0", "make2")
    inner.inputs[0].CopyFrom(constant("a", 1))
    outer = futures([inner], [promise("o0", "dn0", "o0")], [task("make2")])
    world, _ = played(dynamic_run(), {"make": lambda _: outer, "make2": chain_of_two, "t": plus_one})
    dynamic = [each for each in labels(world.events) if each.endswith("DYNAMIC_RUNNING")]
    assert dynamic == ["n0 DYNAMIC_RUNNING", "n0-0-dn0 DYNAMIC_RUNNING"]
    assert labels(world.events)[-1] == "SUCCEEDED"


def test_abort_of_a_dynamic_node_aborts_its_nodes_first() -> None:
    player = Player(dynamic_run(), World({"make": chain_of_two, "t": lambda _: HANGS}))
    player.play_until("n0-0-dn0/0 RUNNING v0")
    player.feed(Abort("enough"))
    assert player.play() is not None
    assert labels(player.world.events)[-4:] == [
        "n0-0-dn0/0 ABORTED v0",
        "n0-0-dn0 ABORTED",
        "n0 ABORTED",
        "ABORTED",
    ]
