"""Workflow and launch plan that run a single task (registry.md#generated-entities)."""

import pytest
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import RetryStrategy
from flyteidl.core.tasks_pb2 import TaskTemplate

from services.registry.compiler import compile_workflow
from services.registry.rules.generated import generated_launch_plan, generated_workflow
from tests.unit.registry.compiler.drawing import INTEGER, STRING, arrows, bindings, identifier, interface, task


def template(name: str = "my.pkg.task_a") -> TaskTemplate:
    return task(name, {"b": INTEGER, "a": STRING}, {"o1": STRING, "o0": INTEGER}).template


def test_workflow_runs_the_task_with_its_own_interface() -> None:
    request = generated_workflow(template())
    assert request.id == identifier(".flytegen.my.pkg.task_a")
    workflow = request.spec.template
    assert workflow.id == request.id
    assert workflow.interface == template().interface
    assert [node.id for node in workflow.nodes] == ["mypkgtaska"]
    assert workflow.nodes[0].metadata.name == "mypkgtaska"
    assert workflow.nodes[0].task_node.reference_id == template().id
    assert workflow.nodes[0].inputs == bindings({"a": ".a", "b": ".b"})
    assert workflow.outputs == bindings({"o0": "mypkgtaska.o0", "o1": "mypkgtaska.o1"})


def test_generated_workflow_compiles() -> None:
    whole = task("t", {"b": INTEGER}, {"o0": INTEGER})
    closure = compile_workflow(generated_workflow(whole.template).spec.template, [], [whole], [])
    assert arrows(closure.primary.connections) == {"start-node": ["t"], "t": ["end-node"]}


@pytest.mark.parametrize(
    ("name", "node_id"),
    [
        ("a" * 60 + ".bcdef", "a" * 57 + "bcdef"),
        ("任务", "task"),
        ("start-node", "task"),
        ("end_node", "endnode"),
    ],
)
def test_node_is_named_after_the_task(name: str, node_id: str) -> None:
    assert generated_workflow(template(name)).spec.template.nodes[0].id == node_id


def test_retries_are_the_tasks_own_or_three() -> None:
    own, silent = template(), template()
    own.metadata.retries.CopyFrom(RetryStrategy(retries=0))
    silent.metadata.SetInParent()
    assert generated_workflow(own).spec.template.nodes[0].metadata.retries.retries == 0
    assert generated_workflow(own).spec.template.nodes[0].metadata.HasField("retries")
    assert generated_workflow(silent).spec.template.nodes[0].metadata.retries.retries == 3


def test_generated_node_has_what_engines_read_from_nodes_only() -> None:
    silent = generated_workflow(template()).spec.template.nodes[0].metadata
    assert not silent.HasField("timeout")
    assert silent.WhichOneof("interruptible_value") is None
    for interruptible in (True, False):
        own = template()
        own.metadata.interruptible = interruptible
        own.metadata.timeout.FromSeconds(90)
        node = generated_workflow(own).spec.template.nodes[0].metadata
        assert (node.WhichOneof("interruptible_value"), node.interruptible) == ("interruptible", interruptible)
        assert node.timeout.ToSeconds() == 90


def test_task_without_variables_keeps_its_interface() -> None:
    bare = TaskTemplate(id=identifier("t", ResourceType.TASK), interface=interface())
    assert not generated_workflow(bare).spec.template.outputs


def test_launch_plan_names_the_bare_task_as_its_workflow() -> None:
    request = generated_launch_plan(template().id)
    assert request.id == identifier(".flytegen.my.pkg.task_a", ResourceType.LAUNCH_PLAN)
    assert request.spec.workflow_id == identifier("my.pkg.task_a")
    for field in ("entity_metadata", "default_inputs", "fixed_inputs", "labels", "annotations"):
        assert request.spec.HasField(field)
    assert not request.spec.HasField("security_context")
