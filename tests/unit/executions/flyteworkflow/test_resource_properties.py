"""Resources of random workflows refer only to what they contain, and their messages can be read back."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, WorkflowExecutionConfig
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.condition_pb2 import BooleanExpression
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.interface_pb2 import VariableMap
from flyteidl.core.literals_pb2 import Binding, LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.workflow_pb2 import ApproveCondition, Node, WorkflowTemplate
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from services.executions.rules.flyteworkflow import Offloading, build_resource, prepare
from services.registry.compiler.requirements import every_node
from tests.support.literals import to_literals
from tests.unit.executions.flyteworkflow.building import EXECUTION
from tests.unit.registry.compiler.drawing import INTEGER, approve, array, branch, compiled, run, sub, workflow

SINGLE = st.sampled_from(["run", "sub", "approve", "array"])
# A case of a branch, or a node of the workflow: a kind, or a list of the cases of a branch.
SHAPES = st.recursive(SINGLE, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=6)
LISTS = st.lists(SHAPES, min_size=1, max_size=4)
URIS = ("s3://closure", "s3://inputs")


def node_of(node_id: str, shape: str | list[Any]) -> Node:
    """Return the node of a shape, whose inputs are all the workflow's input x."""
    if isinstance(shape, list):
        first, *others = [node_of(f"n{i}", each) for i, each in enumerate(shape)]
        last = others.pop() if others else None
        return branch(node_id, first, *others, otherwise=last, x=".x")
    if shape == "run":
        return run(node_id, "double", x=".x")
    if shape == "sub":
        return sub(node_id, "inner", x=".x")
    if shape == "approve":
        return approve(node_id, x=".x")
    return array(node_id, run(f"array-{node_id}", "double"), x=".x")


def template_of(shapes: list[Any], failure: Any) -> WorkflowTemplate:
    return workflow(
        *[node_of(f"n{i}", shape) for i, shape in enumerate(shapes)],
        inputs={"x": INTEGER},
        failure=None if failure is None else node_of("failure", failure),
    )


INNER = workflow(run("n0", "double", x=".x"), name="inner", inputs={"x": INTEGER}, outputs={"o0": (INTEGER, "n0.o0")})
CLOSURES: st.SearchStrategy[CompiledWorkflowClosure] = st.builds(
    lambda shapes, failure: compiled(template_of(shapes, failure), [INNER]), LISTS, st.none() | SHAPES
)
INPUTS = st.integers(-(2**63), 2**63 - 1).map(lambda number: to_literals({"x": number}))


def read_back(encoded: Any, message: Message) -> bytes:
    """Return the message of its JSON, serialized; `message` is an empty one."""
    read: bytes = ParseDict(encoded, message).SerializeToString(deterministic=True)
    return read


def serialized(message: Message) -> bytes:
    result: bytes = message.SerializeToString(deterministic=True)
    return result


def specs(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the NodeSpecs of a WorkflowSpec, those in arrays and that for a failure included."""
    for node in (*spec["nodes"].values(), *([spec["onFailure"]] if "onFailure" in spec else [])):
        yield node
        if "array" in node:
            yield node["array"]["SubNodeSpec"]


def check_node(spec: dict[str, Any], node: dict[str, Any], original: Node, resource: dict[str, Any]) -> None:
    """Check that a NodeSpec refers to what is in the resource, and contains its messages."""
    assert [read_back(each, Binding()) for each in node.get("inputBindings", [])] == list(
        map(serialized, original.inputs)
    )
    match node["kind"]:
        case "task":
            template = resource["tasks"][node["task"]]
            assert read_back(template["id"], Identifier()) == serialized(original.task_node.reference_id)
        case "workflow":
            assert node["workflow"]["subWorkflowRef"] in resource["subWorkflows"]
        case "gate":
            approved = read_back(node["gate"]["approve"], ApproveCondition())
            assert approved == serialized(original.gate_node.approve)
        case "branch":
            branched = node["branch"]
            cases = [branched["if"], *branched.get("elseIf", [])]
            assert ("else" in branched) != ("elseFail" in branched)
            assert {case["then"] for case in cases} | {branched.get("else", cases[0]["then"])} <= spec["nodes"].keys()
            if_else = original.branch_node.if_else
            originals = [serialized(case.condition) for case in (if_else.case, *if_else.other)]
            assert [read_back(case["condition"], BooleanExpression()) for case in cases] == originals


@given(CLOSURES, INPUTS)
def test_resource_contains_all_that_it_refers_to(closure: CompiledWorkflowClosure, inputs: LiteralMap) -> None:
    before = serialized(closure)
    resource = build_resource(closure, inputs, EXECUTION, "p-d")
    assert serialized(closure) == before
    assert json.loads(json.dumps(resource)) == resource
    assert read_back(resource["inputs"], LiteralMap()) == serialized(inputs)
    for compiled_task in closure.tasks:
        assert serialized(compiled_task.template) in {
            read_back(template, TaskTemplate()) for template in resource["tasks"].values()
        }
    referred_to = [each for each in closure.sub_workflows if each.HasField("connections")]
    written_specs = [resource["spec"], *resource.get("subWorkflows", {}).values()]
    for compiled_workflow, spec in zip([closure.primary, *referred_to], written_specs, strict=True):
        template = compiled_workflow.template
        assert read_back(spec["outputs"], VariableMap()) == serialized(template.interface.outputs)
        edges = spec["edges"]
        assert spec["connections"] == edges["downstream"]
        assert edges["downstream"].keys() <= spec["nodes"].keys()
        assert {each for ids in edges["downstream"].values() for each in ids} <= spec["nodes"].keys()
        originals = {node.id: node for node in every_node(template)}
        written = {node["id"]: node for node in specs(spec)}
        assert written.keys() == originals.keys()
        for node_id, node in written.items():
            check_node(spec, node, originals[node_id], resource)


@given(CLOSURES, INPUTS, st.integers(0, 20_000), st.booleans(), st.booleans())
def test_prepared_resource_is_small_or_offloaded(
    closure: CompiledWorkflowClosure, inputs: LiteralMap, most: int, always_closure: bool, always_inputs: bool
) -> None:
    offloading = Offloading(*URIS, most, always_closure=always_closure, always_inputs=always_inputs)
    resource = offloading.limit(
        prepare(
            offloading.build(closure, inputs, EXECUTION, "p-d"),
            execution=EXECUTION,
            spec=ExecutionSpec(),
            config=WorkflowExecutionConfig(),
            task_resources=TaskResourceAttributes(),
            plugin_overrides=(),
            accepted_at=datetime(2024, 1, 2, tzinfo=UTC),
        )
    )
    has_closure, has_inputs = resource["spec"] is not None, "inputs" in resource
    assert has_closure == ("workflowClosureReference" not in resource) == (resource["tasks"] is not None)
    assert has_closure or "subWorkflows" not in resource
    assert has_inputs == ("offloadedInputs" not in resource)
    assert not (always_closure and has_closure)
    assert not (always_inputs and has_inputs)
    references = sum(map(len, URIS)) + len("workflowClosureReference") + len("offloadedInputs")
    size = len(json.dumps(resource, ensure_ascii=False, separators=(",", ":")))
    assert not (has_closure or has_inputs) or size <= most + references
