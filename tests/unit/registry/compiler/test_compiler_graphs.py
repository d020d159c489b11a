"""Random acyclic workflows: valid ones compile to exactly their edges, one fault gives exactly its error."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.literals_pb2 import BindingData
from flyteidl.core.workflow_pb2 import Node, WorkflowTemplate
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from services.registry.compiler import CompilationFailed, compile_workflow, requirements
from tests.unit.registry.compiler.drawing import (
    INTEGER,
    TASKS,
    approve,
    arrows,
    branch,
    codes,
    compiled,
    promise,
    run,
    sources,
    string,
    sub,
    workflow,
)

INNER = workflow(run("n0", "double", x=".x"), name="inner", inputs={"x": INTEGER}, outputs={"o0": (INTEGER, "n0.o0")})
MOST = 8


@dataclass(frozen=True)
class Graph:
    """A workflow of nodes n0, n1, ... with inputs from earlier ones, and its explicit edges."""

    nodes: list[Node]
    edges: set[tuple[str, str]]

    def template(self, order: list[int] | None = None) -> WorkflowTemplate:
        nodes = self.nodes if order is None else [self.nodes[i] for i in order]
        last = self.nodes[-1].id
        return workflow(*nodes, inputs={"x": INTEGER}, outputs={"o": (INTEGER, f"{last}.o0")})


def collected(sources_: list[str]) -> BindingData:
    data = BindingData()
    data.collection.bindings.extend(promise(source) for source in sources_)
    return data


MAKERS: dict[str, Callable[[str, str], Node]] = {
    "task": lambda node_id, source: run(node_id, "double", x=source),
    "list": lambda node_id, source: run(node_id, "sum", xs=collected([source, ".x"])),
    "sub-workflow": lambda node_id, source: sub(node_id, "inner", x=source),
    "approve": lambda node_id, source: approve(node_id, o0=source),
    "branch": lambda node_id, source: branch(
        node_id, run("a", "double", x=".x"), otherwise=run("b", "double", x=source), x=source
    ),
}


@st.composite
def graphs(draw: st.DrawFn, least: int = 1) -> Graph:
    nodes: list[Node] = []
    edges: set[tuple[str, str]] = set()
    for i in range(draw(st.integers(least, MOST))):
        earlier = [node.id for node in nodes]
        source = draw(st.sampled_from(["", *earlier]))
        kind = draw(st.sampled_from(sorted(MAKERS)))
        node = MAKERS[kind](f"n{i}", f"{source}.o0" if source else ".x")
        after = draw(st.lists(st.sampled_from(earlier), max_size=2, unique=True)) if earlier else []
        node.upstream_node_ids.extend(after)
        edges |= {(source or "start-node", node.id), *((before, node.id) for before in after)}
        if kind == "list":
            edges.add(("start-node", node.id))
        nodes.append(node)
    edges.add((nodes[-1].id, "end-node"))
    return Graph(nodes, edges)


def edges_of(closure: CompiledWorkflowClosure) -> set[tuple[str, str]]:
    downstream = arrows(closure.primary.connections)
    return {(source, target) for source, targets in downstream.items() for target in targets}


@given(graphs())
def test_connections_are_the_edges_that_bindings_draw_and_those_of_loose_ends(graph: Graph) -> None:
    closure = compiled(graph.template(), [INNER])
    leading = {source for source, _ in graph.edges}
    loose = {(node.id, "end-node") for node in graph.nodes if node.id not in leading}
    assert edges_of(closure) == graph.edges | loose
    upstream = {(source, target) for target, found in sources(closure.primary.connections).items() for source in found}
    own = {node.id for node in graph.nodes} | {"end-node"}
    assert {(source, target) for source, target in upstream if target in own} == edges_of(closure)


@given(graphs(2), st.permutations(range(MOST)))
def test_order_of_nodes_changes_their_order_and_nothing_else(graph: Graph, shuffled: list[int]) -> None:
    order = [i for i in shuffled if i < len(graph.nodes)]
    one, other = compiled(graph.template(), [INNER]), compiled(graph.template(order), [INNER])
    assert [node.id for node in other.primary.template.nodes[2:]] == [f"n{i}" for i in order]
    ordered = sorted(other.primary.template.nodes[2:], key=lambda node: node.id)
    assert ordered == sorted(one.primary.template.nodes[2:], key=lambda node: node.id)
    assert other.primary.connections == one.primary.connections
    assert (other.tasks, other.sub_workflows) == (one.tasks, one.sub_workflows)


def no_id(node: Node) -> set[tuple[str, str]]:
    node.id = ""
    return {("ValueRequired", "<node>")}


def taken_id(node: Node) -> set[tuple[str, str]]:
    node.id = "n0"
    return {("DuplicateId", "n0")}


def no_target(node: Node) -> set[tuple[str, str]]:
    node.ClearField(node.WhichOneof("target") or "")
    return {("ValueRequired", node.id)}


def unknown_upstream(node: Node) -> set[tuple[str, str]]:
    node.upstream_node_ids.append("gone")
    return {("NodeReferenceNotFound", node.id)}


def unbound(node: Node) -> set[tuple[str, str]]:
    del node.inputs[:]
    return {("ParameterNotBound", node.id)}


def bound_twice(node: Node) -> set[tuple[str, str]]:
    node.inputs.append(node.inputs[0])
    return {("ParameterBoundMoreThanOnce", node.id)}


def wrong_type(node: Node) -> set[tuple[str, str]]:
    node.inputs[0].binding.CopyFrom(string("a"))
    return {("MismatchingTypes", node.id)}


def no_data(node: Node) -> set[tuple[str, str]]:
    node.inputs[0].binding.Clear()
    return {("MismatchingBindings", node.id)}


def unknown_source(node: Node) -> set[tuple[str, str]]:
    node.inputs[0].binding.CopyFrom(promise("gone.o0"))
    return {("NodeReferenceNotFound", "gone"), ("ParameterNotBound", node.id)}


def unknown_output(node: Node) -> set[tuple[str, str]]:
    node.inputs[0].binding.CopyFrom(promise("n0.gone"))
    return {("VariableNameNotFound", "n0"), ("ParameterNotBound", node.id)}


def bad_syntax(node: Node) -> set[tuple[str, str]]:
    node.inputs[0].binding.CopyFrom(promise("n0.a-b"))
    return {("SyntaxError", node.id)}


def unknown_task(node: Node) -> set[tuple[str, str]]:
    node.task_node.reference_id.name = "gone"
    return {("TaskReferenceNotFound", "start-node")}


FAULTS = [
    no_id,
    taken_id,
    no_target,
    unknown_upstream,
    unbound,
    bound_twice,
    wrong_type,
    no_data,
    unknown_source,
    unknown_output,
    bad_syntax,
    unknown_task,
]


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=25)
@given(graph=graphs(), position=st.integers(0, MOST))
def test_single_fault_gives_only_its_error(
    fault: Callable[[Node], set[tuple[str, str]]], graph: Graph, position: int
) -> None:
    victim = run("victim", "double", x=".x")
    nodes = list(graph.nodes)
    nodes.insert(1 + position % len(nodes), victim)
    expected = fault(victim)
    template = Graph(nodes, graph.edges).template()
    template.outputs[0].binding.CopyFrom(promise(f"{graph.nodes[-1].id}.o0"))
    assert codes(template, [INNER]) == expected


@settings(max_examples=300)
@given(graphs(), st.data())
def test_corrupted_requests_are_refused_as_invalid_argument(graph: Graph, data: st.DataObject) -> None:
    payload = bytearray(graph.template().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    try:
        template = WorkflowTemplate.FromString(bytes(payload))
    except DecodeError:
        return
    try:
        requirements(template, [INNER])
        closure = compile_workflow(template, [INNER], TASKS, [])
    except CompilationFailed:
        return
    assert len(closure.primary.template.nodes) == len(template.nodes) + 2
