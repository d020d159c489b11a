"""The resource of an execution: its workflows, graphs, failures, labels (engine.md#flyteworkflow-object)."""

from typing import Any

import pytest
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.workflow_pb2 import Node, WorkflowMetadata

from services.executions.rules.flyteworkflow import BuildFailed, build_resource
from services.executions.rules.flyteworkflow.labels import shard_key, system_labels
from tests.support.default_inputs import default_inputs
from tests.support.literals import to_literals
from tests.unit.executions.flyteworkflow.building import EXECUTION, closure_of, codes, key, task_node
from tests.unit.registry.compiler.drawing import (
    INTEGER,
    branch,
    compiled,
    run,
    sub,
    workflow,
)


def built(closure: CompiledWorkflowClosure) -> dict[str, Any]:
    inputs = default_inputs(closure.primary.template.interface)
    return build_resource(closure, inputs, EXECUTION, "p-d")


def test_resource_of_a_small_workflow_is_complete() -> None:
    closure = compiled(workflow(run("n0", "double", x=".i"), inputs={"i": INTEGER}, outputs={"o": (INTEGER, "n0.o0")}))
    binding = {"var": "o", "binding": {"promise": {"nodeId": "n0", "var": "o0"}}}
    integers = {"variables": {"x": {"type": {"simple": "INTEGER"}}}}
    amounts = {"CPU": "0", "Memory": "0", "EphemeralStorage": "0", "Storage": "0", "GPU": "0"}
    downstream = {"start-node": ["n0"], "n0": ["end-node"]}
    assert built(closure) == {
        "kind": "flyteworkflow",
        "apiVersion": "flyte.lyft.com/v1alpha1",
        "metadata": {
            "name": "exec",
            "namespace": "p-d",
            "labels": {
                "execution-id": "exec",
                "project": "p",
                "domain": "d",
                "workflow-name": "wf",
                "shard-key": shard_key("exec"),
            },
        },
        "spec": {
            "id": "p:d:wf",
            "nodes": {
                "start-node": {"id": "start-node", "kind": "start", "resources": {}},
                "end-node": {"id": "end-node", "kind": "end", "resources": {}, "inputBindings": [binding]},
                "n0": {
                    "id": "n0",
                    "kind": "task",
                    "resources": {},
                    "task": key("double"),
                    "inputBindings": [{"var": "x", "binding": {"promise": {"nodeId": "start-node", "var": "i"}}}],
                },
            },
            "connections": downstream,
            "edges": {"downstream": downstream, "upstream": {"n0": ["start-node"], "end-node": ["n0"]}},
            "outputs": {"variables": {"o": {"type": {"simple": "INTEGER"}}}},
            "outputBindings": [binding],
        },
        "tasks": {
            key("double"): {
                "id": {"resourceType": "TASK", "project": "p", "domain": "d", "name": "double", "version": "v"},
                "interface": {
                    "inputs": integers,
                    "outputs": {"variables": {"o0": {"type": {"simple": "INTEGER"}}}},
                },
            }
        },
        "inputs": {"literals": {"i": {"scalar": {"primitive": {"integer": "0"}}}}},
        "executionId": {},
        "node-defaults": {},
        "securityContext": {},
        "status": {"phase": 0},
        "rawOutputDataConfig": {},
        "executionConfig": {
            "TaskPluginImpls": None,
            "MaxParallelism": 0,
            "RecoveryExecution": {},
            "TaskResources": {"Requests": amounts, "Limits": amounts},
            "Interruptible": None,
            "OverwriteCache": False,
            "EnvironmentVariables": None,
        },
    }


def test_workflow_without_inputs_and_outputs_has_empty_ones() -> None:
    resource = built(compiled(workflow(run("n0", "nothing"))))
    assert resource["inputs"] == {}
    assert resource["spec"]["outputs"] == {}
    assert "outputBindings" not in resource["spec"]
    assert "subWorkflows" not in resource


def test_sub_workflows_are_keyed_as_their_nodes_refer_to_them() -> None:
    inner = workflow(
        run("n0", "double", x=".x"), name="inner", inputs={"x": INTEGER}, outputs={"o": (INTEGER, "n0.o0")}
    )
    outer = workflow(sub("n0", "inner", x=".i"), inputs={"i": INTEGER}, outputs={"o": (INTEGER, "n0.o")})
    resource = build_resource(compiled(outer, [inner]), to_literals({"i": 1}), EXECUTION, "p-d")
    inner_key = key("inner", ResourceType.WORKFLOW)
    assert resource["spec"]["nodes"]["n0"]["workflow"] == {"subWorkflowRef": inner_key}
    assert list(resource["subWorkflows"]) == [inner_key]
    spec = resource["subWorkflows"][inner_key]
    assert spec["id"] == "p:d:inner"
    assert spec["nodes"]["n0"]["task"] in resource["tasks"]
    assert spec["edges"]["downstream"] == {"start-node": ["n0"], "n0": ["end-node"]}


def test_sub_workflow_to_which_no_node_refers_is_left_out() -> None:
    unused = workflow(run("n0", "double", x=".x"), name="unused", inputs={"x": INTEGER})
    resource = built(compiled(workflow(run("n0", "nothing")), [unused]))
    assert "subWorkflows" not in resource
    assert list(resource["tasks"]) == [key("nothing")]


def test_nodes_of_branches_are_nodes_of_the_workflow() -> None:
    nested = branch("n0", run("n0", "double", x=".i"), otherwise=run("n1", "double", x=".i"), x=".i")
    outer = branch("n0", nested, otherwise=run("n1", "double", x=".i"), x=".i")
    closure = compiled(workflow(outer, inputs={"i": INTEGER}))
    nodes = built(closure)["spec"]["nodes"]
    assert set(nodes) == {"start-node", "end-node", "n0", "n0-n0", "n0-n1", "n0-n0-n0", "n0-n0-n1"}
    assert nodes["n0"]["branch"]["if"]["then"] == "n0-n0"
    assert nodes["n0-n0"]["branch"]["else"] == "n0-n0-n1"


def test_same_node_twice_is_one_and_different_nodes_of_one_id_are_refused() -> None:
    closure = closure_of(task_node(), task_node(), start=["n0"])
    assert set(built(closure)["spec"]["nodes"]) == {"start-node", "end-node", "n0"}
    closure.primary.template.nodes[-1].metadata.name = "other"
    with pytest.raises(BuildFailed, match="unique") as failed:
        built(closure)
    assert codes(failed.value) == [("ValueCollision", "n0")]


def test_same_task_twice_is_refused() -> None:
    closure = closure_of(task_node())
    closure.tasks.append(closure.tasks[0])
    with pytest.raises(BuildFailed, match="unique") as failed:
        built(closure)
    assert codes(failed.value) == [("ValueCollision", key("make"))]


@pytest.mark.parametrize("following", [{"start": []}, {"n0": ["end-node"]}])
def test_workflow_in_which_nothing_follows_the_start_is_refused(following: dict[str, list[str]]) -> None:
    closure = closure_of(task_node(), **following)
    before = closure.SerializeToString(deterministic=True)
    with pytest.raises(BuildFailed, match="no entry node") as failed:
        built(closure)
    assert codes(failed.value) == [("NoEntryNodeFound", "p:d:wf")]
    assert closure.SerializeToString(deterministic=True) == before


def test_failure_node_is_no_node_of_the_graph() -> None:
    closure = compiled(workflow(run("n0", "nothing"), failure=run("on-failure", "nothing")))
    spec = built(closure)["spec"]
    assert spec["onFailure"] == {"id": "on-failure", "kind": "task", "resources": {}, "task": key("nothing")}
    assert set(spec["nodes"]) == {"start-node", "end-node", "n0"}


def test_branch_that_handles_a_failure_finds_its_nodes_in_the_workflow() -> None:
    closure = closure_of(task_node())
    failure = Node(id="failed")
    failure.branch_node.if_else.case.then_node.CopyFrom(task_node("failed-n0"))
    failure.branch_node.if_else.error.message = "no case"
    closure.primary.template.failure_node.CopyFrom(failure)
    spec = built(closure)["spec"]
    assert spec["onFailure"]["branch"]["if"]["then"] == "failed-n0"
    assert "failed-n0" in spec["nodes"]
    assert "failed" not in spec["nodes"]


def test_failure_policy_is_written_unless_it_is_the_default() -> None:
    closure = closure_of(task_node())
    closure.primary.template.metadata.on_failure = WorkflowMetadata.FAIL_IMMEDIATELY
    assert "onFailurePolicy" not in built(closure)["spec"]
    closure.primary.template.metadata.on_failure = WorkflowMetadata.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE
    assert built(closure)["spec"]["onFailurePolicy"] == "FAIL_AFTER_EXECUTABLE_NODES_COMPLETE"


def test_interruptible_workflow_is_a_default_of_its_nodes() -> None:
    closure = closure_of(task_node())
    closure.primary.template.metadata_defaults.interruptible = True
    assert built(closure)["node-defaults"] == {"interruptible": True}


@pytest.mark.parametrize(
    ("workflow_name", "label"),
    [
        ("core.flyte_basics.lp.my_wf", "core-flyte-basics-lp-my-wf"),
        (".flytegen.a.Task", "flytegen-a-task"),
        ("Übung: eins!", "bung-eins"),
        ("a" * 62 + "._b", "a" * 62),
        ("...", ""),
    ],
)
def test_label_of_the_workflow_is_valid_in_kubernetes(workflow_name: str, label: str) -> None:
    assert system_labels(EXECUTION, workflow_name)["workflow-name"] == label


@pytest.mark.parametrize(("name", "expected"), [("name", "6"), ("", "5"), ("a", "12")])
def test_shard_key_is_the_hash_of_the_name(name: str, expected: str) -> None:
    assert shard_key(name) == expected
    labels = system_labels(WorkflowExecutionIdentifier(project="p", domain="d", name=name), "wf")
    assert labels["shard-key"] == expected
