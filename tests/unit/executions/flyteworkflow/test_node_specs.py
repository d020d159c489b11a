"""NodeSpecs: every kind of node and every member of it (engine.md#flyteworkflow-object)."""

from typing import Any

import pytest
from flyteidl.core.condition_pb2 import BooleanExpression, ComparisonExpression, Operand
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import Primitive
from flyteidl.core.tasks_pb2 import DataLoadingConfig, IOStrategy, K8sObjectMetadata, K8sPod, Resources
from flyteidl.core.types_pb2 import Error
from flyteidl.core.workflow_pb2 import Alias, ArrayNode, IfBlock, Node
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict

from services.executions.rules.flyteworkflow import BuildFailed
from services.executions.rules.flyteworkflow.nodes import node_specs
from tests.unit.executions.flyteworkflow.building import by_key, key, spec_of, task_node
from tests.unit.registry.compiler.drawing import INTEGER, bindings, equals, identifier, launch, sub, task

EQUALS_1 = {"comparison": {"leftValue": {"var": "x"}, "rightValue": {"primitive": {"integer": "1"}}}}
EQUALS_2 = {"comparison": {"leftValue": {"var": "x"}, "rightValue": {"primitive": {"integer": "2"}}}}


def codes(failed: BuildFailed) -> list[tuple[str, str]]:
    return [(str(error.code), error.node_id) for error in failed.errors]


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


def test_launch_plan_node_has_an_identifier_as_protojson() -> None:
    assert spec_of(launch("n0", "plan")) == {
        "id": "n0",
        "kind": "workflow",
        "resources": {},
        "workflow": {
            "launchPlanRefId": {
                "resourceType": "LAUNCH_PLAN",
                "project": "p",
                "domain": "d",
                "name": "plan",
                "version": "v",
            }
        },
    }


def test_sub_workflow_node_has_the_key_of_a_sub_workflow() -> None:
    assert spec_of(sub("n0", "inner"))["workflow"] == {"subWorkflowRef": key("inner", ResourceType.WORKFLOW)}


def test_workflow_node_without_a_reference_is_refused() -> None:
    with pytest.raises(BuildFailed) as failed:
        spec_of(ParseDict({"id": "n0", "workflowNode": {}}, Node()))
    assert codes(failed.value) == [("ValueRequired", "n0")]


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ({"approve": {"signalId": "ok"}}, {"kind": "approve", "approve": {"signalId": "ok"}}),
        (
            {"signal": {"signalId": "s", "type": {"simple": "INTEGER"}, "outputVariableName": "o0"}},
            {
                "kind": "signal",
                "signal": {"signalId": "s", "type": {"simple": "INTEGER"}, "outputVariableName": "o0"},
            },
        ),
        ({"sleep": {"duration": "10s"}}, {"kind": "sleep", "sleep": {"duration": "10s"}}),
        ({"sleep": {"duration": "1.500s"}}, {"kind": "sleep", "sleep": {"duration": "1.500s"}}),
    ],
)
def test_gate_has_its_kind_and_condition(gate: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = spec_of(ParseDict({"id": "n0", "gateNode": gate}, Node()))
    assert (spec["kind"], spec["gate"]) == ("gate", expected)


def test_gate_without_a_condition_is_refused() -> None:
    with pytest.raises(BuildFailed) as failed:
        spec_of(ParseDict({"id": "n0", "gateNode": {}}, Node()))
    assert codes(failed.value) == [("ValueRequired", "n0")]


def array(**fields: Any) -> dict[str, Any]:
    """Return the member `array` of an array node with these fields."""
    node = Node(id="n0", array_node=ArrayNode(node=task_node("n0-n0"), **fields))
    spec = spec_of(node)
    assert spec["kind"] == "array"
    member: dict[str, Any] = spec["array"]
    return member


def test_array_has_all_members_in_go_names() -> None:
    sub_node = {"id": "n0-n0", "kind": "task", "resources": {}, "task": key("make")}
    unset = {"Parallelism": None, "MinSuccesses": None, "MinSuccessRatio": None, "BoundInputs": None}
    assert array() == {"SubNodeSpec": sub_node, **unset}
    assert array(parallelism=0, min_successes=2, bound_inputs=["a"]) == {
        "SubNodeSpec": sub_node,
        "Parallelism": 0,
        "MinSuccesses": 2,
        "MinSuccessRatio": None,
        "BoundInputs": ["a"],
    }


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.9, 1.0])
def test_ratio_of_an_array_is_the_number_that_was_registered(ratio: float) -> None:
    assert array(parallelism=3, min_success_ratio=ratio)["MinSuccessRatio"] == ratio


def branch(*cases: Node, otherwise: Node | None = None, error: str = "") -> Node:
    """Return a branch that compares x with 1, 2 ..."""
    node = Node(id="n0")
    if_else = node.branch_node.if_else
    first, *others = [IfBlock(condition=equals("x", i), then_node=case) for i, case in enumerate(cases, 1)]
    if_else.case.CopyFrom(first)
    if_else.other.extend(others)
    if otherwise is not None:
        if_else.else_node.CopyFrom(otherwise)
    elif error:
        if_else.error.CopyFrom(Error(failed_node_id="n0", message=error))
    return node


def test_branch_lists_its_cases_and_its_children_follow_it() -> None:
    node = branch(task_node("n0-n0"), task_node("n0-n1"), otherwise=task_node("n0-n2"))
    spec, *children = node_specs(node, by_key())
    assert spec == {
        "id": "n0",
        "kind": "branch",
        "resources": {},
        "branch": {
            "if": {"condition": EQUALS_1, "then": "n0-n0"},
            "elseIf": [{"condition": EQUALS_2, "then": "n0-n1"}],
            "else": "n0-n2",
        },
    }
    assert {child["id"] for child in children} == {"n0-n0", "n0-n1", "n0-n2"}
    assert {child["task"] for child in children} == {key("make")}


def test_branch_without_else_fails_in_snake_case() -> None:
    spec, _ = node_specs(branch(task_node("n0-n0"), error="no case"), by_key())
    assert spec["branch"] == {
        "if": {"condition": EQUALS_1, "then": "n0-n0"},
        "elseFail": {"failed_node_id": "n0", "message": "no case"},
    }


def test_children_of_nested_branches_are_all_listed() -> None:
    inner = branch(task_node("n0-n0-n0"), otherwise=task_node("n0-n0-n1"))
    inner.id = "n0-n0"
    outer = branch(inner, otherwise=task_node("n0-n1"))
    assert [spec["id"] for spec in node_specs(outer, by_key())] == ["n0", "n0-n0", "n0-n0-n0", "n0-n0-n1", "n0-n1"]


def test_array_of_a_branch_is_refused() -> None:
    inner = branch(task_node("n0-n0"), error="no case")
    with pytest.raises(BuildFailed, match="cannot repeat a branch") as failed:
        spec_of(Node(id="n1", array_node=ArrayNode(node=inner)))
    assert codes(failed.value) == [("WorkflowBuildError", "n1")]


def test_condition_is_protojson() -> None:
    condition = BooleanExpression(
        comparison=ComparisonExpression(
            operator=ComparisonExpression.GTE,
            left_value=Operand(var="x"),
            right_value=Operand(primitive=Primitive(float_value=0.0)),
        )
    )
    node = branch(task_node("n0-n0"), error="no case")
    node.branch_node.if_else.case.condition.CopyFrom(condition)
    spec, _ = node_specs(node, by_key())
    assert spec["branch"]["if"]["condition"] == {
        "comparison": {
            "operator": "GTE",
            "leftValue": {"var": "x"},
            "rightValue": {"primitive": {"floatValue": 0.0}},
        }
    }


def test_array_of_launch_plans_is_written() -> None:
    node = Node(id="n0", array_node=ArrayNode(node=launch("n0-n0", "plan")))
    assert spec_of(node)["array"]["SubNodeSpec"]["workflow"]["launchPlanRefId"]["name"] == "plan"


def test_key_of_a_task_leaves_empty_fields_out() -> None:
    bare = task("bare", {"x": INTEGER})
    bare.template.id.CopyFrom(identifier("bare", ResourceType.TASK))
    bare.template.id.project = bare.template.id.domain = ""
    node = Node(id="n0")
    node.task_node.reference_id.CopyFrom(bare.template.id)
    assert spec_of(node, bare)["task"] == 'resource_type:TASK name:"bare" version:"v"'
