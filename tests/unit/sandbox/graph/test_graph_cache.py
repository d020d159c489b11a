"""The cache of tasks, and recovery of nodes from a reference execution."""

from typing import Any

from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.catalog_pb2 import CACHE_HIT, CACHE_POPULATED, CatalogMetadata
from flyteidl.core.execution_pb2 import NodeExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.tasks_pb2 import Resources, TaskTemplate
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent

from deploy.sandbox.engine.graph.inputs import Abort, CacheLookedUp, ChildFinished, RecoveredLookedUp
from deploy.sandbox.engine.graph.interface import LookUpCache, Run, StartChild, StartTask, TaskKey
from tests.support.engine_graphs import (
    LIST,
    constant,
    futures,
    launch_plan,
    launch_plan_node,
    map_node,
    node,
    run_of,
    task,
    workflow,
)
from tests.support.entities import INTEGER, literals, promise
from tests.support.graph_player import HANGS, Player, World, labels, played, plus_one
from tests.support.literals import to_literals

REFERENCE = WorkflowExecutionIdentifier(project="p", domain="d", name="before")


def cached_run(n: int = 1, *, overwrite: bool = False, **metadata: Any) -> Run:
    cached = task("t", discoverable=True, discovery_version="1", **metadata)
    template = workflow("w", [node("n0", "t")], [promise("o0", "n0", "o0")])
    return run_of(template, [cached], {"n": n}, config=WorkflowExecutionConfig(overwrite_cache=overwrite))


def last_of(world: World, node_id: str) -> NodeExecutionEvent:
    return [each for each in world.events if isinstance(each, NodeExecutionEvent) and each.id.node_id == node_id][-1]


def test_outputs_are_stored_in_the_cache_before_the_node_succeeds() -> None:
    world, _ = played(cached_run())
    assert list(world.cache.values()) == [literals(o0=2)]
    assert last_of(world, "n0").task_node_metadata.cache_status == CACHE_POPULATED


def test_cache_hit_is_the_only_event_of_its_node() -> None:
    first, _ = played(cached_run())
    world, finish = played(cached_run(), cache=first.cache)
    found = [label for label in labels(world.events) if label.startswith("n0")]
    assert found == ["n0 SUCCEEDED"]
    event = last_of(world, "n0")
    assert event.task_node_metadata.cache_status == CACHE_HIT
    assert event.task_node_metadata.HasField("catalog_key")
    assert world.objects[event.output_uri] == literals(o0=2)
    assert (world.started, finish.phase) == ([], WorkflowExecution.SUCCEEDED)


def test_other_inputs_are_a_miss() -> None:
    first, _ = played(cached_run())
    world, _ = played(cached_run(n=5), cache=first.cache)
    assert len(world.started) == 1


def test_ignored_variables_do_not_count() -> None:
    first, _ = played(cached_run(cache_ignore_input_vars=["a"]))
    world, _ = played(cached_run(n=5, cache_ignore_input_vars=["a"]), cache=first.cache)
    assert world.started == []


def test_overwrite_runs_the_task_and_stores_its_outputs() -> None:
    first, _ = played(cached_run())
    world, _ = played(cached_run(overwrite=True), {"t": lambda _: {"o0": 7}}, cache=first.cache)
    assert len(world.started) == 1
    assert list(world.cache.values()) == [literals(o0=7)]


def test_task_without_outputs_is_not_stored() -> None:
    cached = task("t", outputs={}, discoverable=True, discovery_version="1")
    world, _ = played(run_of(workflow("w", [node("n0", "t")]), [cached]), {"t": lambda _: {}})
    assert world.cache == {}


def test_serialized_cache_waits_for_the_reservation_after_the_node_is_queued() -> None:
    player = Player(cached_run(cache_serializable=True), World({"t": plus_one}))
    player.play_until("n0 QUEUED")
    [waiting] = [each for each in player.execution.outstanding() if isinstance(each, LookUpCache)]
    assert waiting.serialize
    player.feed(CacheLookedUp(waiting.key, literals(o0=4), CatalogMetadata()))
    assert player.play() is not None
    assert [label for label in labels(player.world.events) if label.startswith("n0")] == ["n0 QUEUED", "n0 SUCCEEDED"]


def test_aborted_task_releases_its_reservation() -> None:
    player = Player(cached_run(cache_serializable=True), World({"t": lambda _: HANGS}))
    player.play_until("n0/0 RUNNING v0")
    player.feed(Abort("enough"))
    assert [each.key for each in player.world.released] == [TaskKey("n0")]


def test_items_of_a_map_are_cached_alone() -> None:
    cached = task("t", {"a": LIST}, {"o0": LIST}, discoverable=True, discovery_version="1")
    template = workflow(
        "w", [map_node("n0", "t")], [promise("o0", "n0", "o0")], inputs={"n": LIST}, output_types={"o0": LIST}
    )
    first, _ = played(run_of(template, [cached], to_literals({"n": [1, 2]})))
    world, _ = played(run_of(template, [cached], to_literals({"n": [2, 3]})), cache=first.cache)
    assert [start.key.index for start in world.started] == [1]
    last = [each for each in world.events if isinstance(each, TaskExecutionEvent)][-1]
    assert [each.cache_status for each in last.metadata.external_resources] == [CACHE_HIT, CACHE_POPULATED]


# ---- Recovery


def recovering(*recovered: RecoveredLookedUp, functions: Any = None) -> World:
    template = workflow("w", [node("n0", "t"), node("n1", "t", "n0")], [promise("o0", "n1", "o0")])
    run = run_of(template, [task("t")], recovers=REFERENCE)
    world, finish = played(run, functions, recovered={each.node_id: each for each in recovered})
    assert finish.phase == WorkflowExecution.SUCCEEDED
    return world


def test_recovered_node_reports_nothing_else_and_its_outputs_are_used() -> None:
    world = recovering(RecoveredLookedUp("n0", NodeExecution.SUCCEEDED, literals(o0=40)))
    assert [label for label in labels(world.events) if label.startswith("n0")] == ["n0 RECOVERED"]
    assert world.objects[last_of(world, "n0").output_uri] == literals(o0=40)
    assert [start.key.node_id for start in world.started] == ["n1"]
    assert world.objects["mem://metadata/propeller/p-d-e/end-node/data/0/outputs.pb"] == literals(o0=41)


def test_node_that_failed_in_the_reference_runs_with_its_checkpoint() -> None:
    world = recovering(RecoveredLookedUp("n0", NodeExecution.FAILED, checkpoint_uri="mem://old/_flytecheckpoints"))
    assert [start.previous_checkpoint_prefix for start in world.started] == ["mem://old/_flytecheckpoints", ""]


def test_child_of_the_reference_is_recovered() -> None:
    template = workflow("w", [launch_plan_node("n0", "lp")], [promise("o0", "n0", "o0")])
    run = run_of(template, [], launch_plans=[launch_plan("lp")], recovers=REFERENCE)
    child = WorkflowExecutionIdentifier(project="p", domain="d", name="old-child")
    done = ChildFinished(TaskKey(""), WorkflowExecution.SUCCEEDED, outputs=literals(o0=9))
    world = World(
        {}, children={"lp": done}, recovered={"n0": RecoveredLookedUp("n0", NodeExecution.FAILED, child=child)}
    )
    player = Player(run, world)
    player.play_until("n0 QUEUED")
    [start] = [each for each in player.execution.outstanding() if isinstance(each, StartChild)]
    assert start.recovers == child


def test_dynamic_node_whose_task_had_succeeded_goes_on_with_its_nodes() -> None:
    first = node("dn0", "t")
    first.inputs[0].CopyFrom(constant("a", 10))
    made = futures([first], [promise("o0", "dn0", "o0")], [task("t")])
    world = recovering(RecoveredLookedUp("n0", NodeExecution.FAILED, futures=made))
    found = [label for label in labels(world.events) if label.startswith("n0 ")]
    assert found == ["n0 RUNNING", "n0 DYNAMIC_RUNNING", "n0 SUCCEEDED"]
    assert [start.key.node_id for start in world.started] == ["n0-0-dn0", "n1"]


def test_template_is_prepared_with_the_overrides_of_its_node() -> None:
    overridden = node("n0", "t")
    overridden.task_node.overrides.container_image = "other:1"
    overridden.task_node.overrides.resources.requests.add(name="CPU", value="3")
    original = task("t", {"a": INTEGER})
    original.container.resources.requests.add(name="CPU", value="1")
    original.container.resources.requests.add(name="MEMORY", value="1Gi")

    def prepare(template: TaskTemplate) -> TaskTemplate:
        result = TaskTemplate()
        result.CopyFrom(template)
        result.container.config.add(key="seen", value=template.container.image)
        return result

    run = run_of(workflow("w", [overridden], [promise("o0", "n0", "o0")]), [original], prepare=prepare)
    world, _ = played(run)
    start: StartTask = world.started[0]
    assert start.template.container.image == "other:1"
    assert [(each.key, each.value) for each in start.template.container.config] == [("seen", "other:1")]
    amounts = {each.name: each.value for each in start.template.container.resources.requests}
    assert amounts == {Resources.CPU: "3", Resources.MEMORY: "1Gi"}
