"""NodeSpecs of workflow nodes, gates, arrays and branches (engine.md#flyteworkflow-object)."""

from typing import Any

import pytest
from flyteidl.core.condition_pb2 import BooleanExpression, ComparisonExpression, Operand
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import Primitive
from flyteidl.core.types_pb2 import Error
from flyteidl.core.workflow_pb2 import ArrayNode, IfBlock, Node
from google.protobuf.json_format import ParseDict

from services.executions.rules.flyteworkflow import BuildFailed
from services.executions.rules.flyteworkflow.nodes import node_specs
from tests.unit.executions.flyteworkflow.building import by_key, codes, key, spec_of, task_node
from tests.unit.registry.compiler.drawing import equals, launch, sub

EQUALS_1 = {"comparison": {"leftValue": {"var": "x"}, "rightValue": {"primitive": {"integer": "1"}}}}
EQUALS_2 = {"comparison": {"leftValue": {"var": "x"}, "rightValue": {"primitive": {"integer": "2"}}}}


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
