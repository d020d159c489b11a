"""NodeSpecs: members of every node, and task nodes with their overrides (engine.md#flyteworkflow-object)."""

from typing import Any

import pytest
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.tasks_pb2 import DataLoadingConfig, IOStrategy, K8sObjectMetadata, K8sPod, Resources
from flyteidl.core.workflow_pb2 import Alias, Node
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict

from services.executions.rules.flyteworkflow import BuildFailed
from tests.unit.executions.flyteworkflow.building import codes, key, spec_of, task_node
from tests.unit.registry.compiler.drawing import INTEGER, bindings, identifier, launch, task


@pytest.mark.parametrize(("node_id", "kind"), [("start-node", "start"), ("end-node", "end")])
def test_boundary_node_has_no_target(node_id: str, kind: str) -> None:
    assert spec_of(Node(id=node_id)) == {"id": node_id, "kind": kind, "resources": {}}


def test_node_without_a_target_is_refused() -> None:
    with pytest.raises(BuildFailed, match=r"Value required \[target\]") as failed:
        spec_of(Node(id="n0"))
    assert codes(failed.value) == [("ValueRequired", "n0")]


def test_task_node_refers_to_its_task_by_the_key_of_tasks() -> None:
    assert spec_of(task_node()) == {"id": "n0", "kind": "task", "resources": {}, "task": key("make")}


def test_task_node_with_an_unknown_task_is_refused() -> None:
    with pytest.raises(BuildFailed, match="Referenced Task") as failed:
        spec_of(task_node(name="absent"))
    assert codes(failed.value) == [("TaskReferenceNotFound", "n0")]
    with pytest.raises(BuildFailed):
        spec_of(ParseDict({"id": "n0", "taskNode": {}}, Node()))


def test_bindings_are_protojson_and_aliases_plain() -> None:
    node = task_node()
    node.inputs.extend(bindings({"x": "n1.o0", "y": 3}))
    node.output_aliases.append(Alias(var="o0", alias="out"))
    spec = spec_of(node)
    assert spec["inputBindings"] == [
        {"var": "x", "binding": {"promise": {"nodeId": "n1", "var": "o0"}}},
        {"var": "y", "binding": {"scalar": {"primitive": {"integer": "3"}}}},
    ]
    assert spec["outputAlias"] == [{"var": "o0", "alias": "out"}]


@pytest.mark.parametrize(
    ("of_node", "of_task", "expected"),
    [(0, 0, None), (2, 0, {"minAttempts": 3}), (0, 4, {"minAttempts": 5}), (2, 4, {"minAttempts": 3})],
)
def test_retries_are_those_of_the_node_else_those_of_the_task(
    of_node: int, of_task: int, expected: dict[str, int] | None
) -> None:
    node, retried = task_node(name="retried"), task("retried")
    node.metadata.retries.retries = of_node
    retried.template.metadata.retries.retries = of_task
    assert spec_of(node, retried).get("retry") == expected


def test_node_without_a_task_can_have_retries() -> None:
    node = launch("n0", "plan")
    node.metadata.retries.retries = 1
    assert spec_of(node)["retry"] == {"minAttempts": 2}


@pytest.mark.parametrize(
    ("timeout", "execution", "active"),
    [
        (Duration(seconds=1200), "20m0s", "40m0s"),
        (Duration(seconds=3600, nanos=500_000_000), "1h0m0.5s", "2h0m1s"),
        (Duration(nanos=750_000_000), "750ms", "1.5s"),
        (Duration(), "0s", "0s"),
        (Duration(seconds=2**33), "2386092h56m32s", "2562047h47m16.854775807s"),
    ],
)
def test_timeout_is_a_go_duration_and_twice_it(timeout: Duration, execution: str, active: str) -> None:
    node = task_node()
    node.metadata.timeout.CopyFrom(timeout)
    spec = spec_of(node)
    assert (spec["executionDeadline"], spec["activeDeadline"]) == (execution, active)


def test_timeout_that_go_cannot_hold_is_refused() -> None:
    node = task_node()
    node.metadata.timeout.seconds = 2**34
    with pytest.raises(BuildFailed) as failed:
        spec_of(node)
    assert codes(failed.value) == [("SyntaxError", "n0")]


@pytest.mark.parametrize("value", [True, False])
def test_interruptible_is_written_when_the_node_sets_it(value: bool) -> None:
    node = task_node()
    node.metadata.name = "named"
    node.metadata.interruptible = value
    spec = spec_of(node)
    assert (spec["name"], spec["interruptible"]) == ("named", value)
    assert {"name", "interruptible"}.isdisjoint(spec_of(task_node()))


def overridden(**resources: dict[str, str]) -> Node:
    """Return a task node with resources by Flyte's names."""
    entries = {
        member: [Resources.ResourceEntry(name=name, value=text) for name, text in of.items()]
        for member, of in resources.items()
    }
    node = task_node()
    node.task_node.overrides.resources.CopyFrom(Resources(**entries))
    return node


def test_overridden_resources_are_those_of_kubernetes_without_zeros() -> None:
    amounts = {"CPU": "0.5", "MEMORY": "1024Mi", "GPU": "1", "EPHEMERAL_STORAGE": "2e9", "STORAGE": "1Gi"}
    node = overridden(requests=amounts, limits={"CPU": "2", "MEMORY": "0Gi"})
    assert spec_of(node)["resources"] == {
        "requests": {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1", "ephemeral-storage": "2e9"},
        "limits": {"cpu": "2"},
    }
    assert spec_of(overridden(requests={"CPU": "0"}))["resources"] == {}


def test_overridden_resource_that_is_no_quantity_is_refused() -> None:
    with pytest.raises(BuildFailed, match="quantities must match") as failed:
        spec_of(overridden(limits={"CPU": "many"}))
    assert codes(failed.value) == [("WorkflowBuildError", "n0")]


def test_accelerator_shared_memory_and_image_of_overrides_are_written() -> None:
    node = task_node()
    overrides = node.task_node.overrides
    overrides.container_image = "image:2"
    overrides.extended_resources.gpu_accelerator.device = "nvidia-tesla-a100"
    overrides.extended_resources.gpu_accelerator.unpartitioned = False
    overrides.extended_resources.shared_memory.size_limit = "1Gi"
    spec = spec_of(node)
    assert spec["containerImage"] == "image:2"
    assert spec["extendedResources"] == {
        "gpuAccelerator": {"device": "nvidia-tesla-a100", "unpartitioned": False},
        "sharedMemory": {"sizeLimit": "1Gi"},
    }
    assert {"containerImage", "extendedResources", "podTemplate"}.isdisjoint(spec_of(task_node()))


def test_pod_template_of_overrides_is_plain() -> None:
    pod = K8sPod(metadata=K8sObjectMetadata(labels={"team": "a"}), primary_container_name="main")
    container: dict[str, Any] = {"name": "main", "ports": [{"containerPort": 80}], "tty": False, "stdin": None}
    pod.pod_spec.update({"containers": [container], "hostNetwork": True})
    pod.data_config.enabled = True
    pod.data_config.input_path = "/in"
    pod.data_config.format = DataLoadingConfig.YAML
    pod.data_config.io_strategy.upload_mode = IOStrategy.UPLOAD_EAGER
    node = task_node()
    node.task_node.overrides.pod_template.CopyFrom(pod)
    assert spec_of(node)["podTemplate"] == {
        "metadata": {"labels": {"team": "a"}},
        "pod_spec": {"containers": [container], "hostNetwork": True},
        "data_config": {"enabled": True, "input_path": "/in", "format": 1, "io_strategy": {"upload_mode": 1}},
        "primary_container_name": "main",
    }


def test_key_of_a_task_leaves_empty_fields_out() -> None:
    bare = task("bare", {"x": INTEGER})
    bare.template.id.CopyFrom(identifier("bare", ResourceType.TASK))
    bare.template.id.project = bare.template.id.domain = ""
    node = Node(id="n0")
    node.task_node.reference_id.CopyFrom(bare.template.id)
    assert spec_of(node, bare)["task"] == 'resource_type:TASK name:"bare" version:"v"'
