"""Which registrations have the same digest (registry.md#digests)."""

from flyteidl.admin.launch_plan_pb2 import ACTIVE, LaunchPlan
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure

from services.registry.rules.digests import launch_plan_digest, task_digest, workflow_digest
from tests.unit.registry.compiler.drawing import INTEGER, STRING, compiled, run, task, workflow


def test_same_task_has_the_same_digest_whatever_the_order_of_its_maps() -> None:
    one, other = task("t", {"a": INTEGER, "b": STRING}), task("t", {"b": STRING, "a": INTEGER})
    assert task_digest(one) == task_digest(other)
    assert task_digest(one) != task_digest(task("t", {"a": INTEGER}))


def test_empty_message_is_not_an_absent_one() -> None:
    one, other = task("t"), task("t")
    other.template.metadata.SetInParent()
    assert task_digest(one) != task_digest(other)


def test_unknown_fields_are_ignored_and_preserved() -> None:
    one = task("t")
    newer = CompiledTask.FromString(one.SerializeToString() + b"\xf8\x7f\x01")
    before = newer.SerializeToString()
    assert task_digest(newer) == task_digest(one)
    assert newer.SerializeToString() == before


def test_same_workflow_compiles_to_the_same_digest() -> None:
    def closure(**nodes: str) -> CompiledWorkflowClosure:
        return compiled(workflow(*(run(node_id, name) for node_id, name in nodes.items())))

    assert workflow_digest(closure(a="nothing", b="make")) == workflow_digest(closure(a="nothing", b="make"))
    assert workflow_digest(closure(a="nothing", b="make")) != workflow_digest(closure(b="make", a="nothing"))


def test_state_and_times_of_a_launch_plan_do_not_count() -> None:
    plan, changed = LaunchPlan(), LaunchPlan()
    for each in (plan, changed):
        each.id.name = "lp"
        each.spec.role = "r"
        each.closure.expected_inputs.SetInParent()
    changed.closure.state = ACTIVE
    changed.closure.created_at.seconds = 1
    assert launch_plan_digest(plan) == launch_plan_digest(changed)
    changed.closure.expected_outputs.SetInParent()
    assert launch_plan_digest(plan) != launch_plan_digest(changed)
