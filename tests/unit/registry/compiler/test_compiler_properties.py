"""For every request the compiler returns a valid closure or a list of errors."""

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import BindingData, BindingDataCollection, BindingDataMap, Scalar
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.core.workflow_pb2 import Alias, Node, WorkflowTemplate
from hypothesis import given, settings
from hypothesis import strategies as st

from services.registry.compiler import CompilationFailed, compile_workflow, requirements
from services.registry.compiler.requirements import every_node
from tests.unit.registry.compiler.drawing import (
    INTEGER,
    STRING,
    TASKS,
    approve,
    branch,
    identifier,
    integer,
    launch,
    list_of,
    promise,
    run,
    string,
    sub,
    task,
    union,
    workflow,
)

NODE_IDS = st.sampled_from(["n0", "n1", "n2", "n3", "start-node", ""])
NAMES = st.sampled_from(["x", "s", "xs", "o0", "u"])
TYPES: st.SearchStrategy[LiteralType] = st.sampled_from([INTEGER, STRING, list_of(INTEGER), union(INTEGER, STRING)])
CONSTANTS = st.sampled_from([integer(1), string("a"), BindingData(), BindingData(scalar=Scalar())])
PROMISES = st.builds(lambda node_id, name: promise(f"{node_id}.{name}"), NODE_IDS, NAMES)
DATA = st.recursive(
    CONSTANTS | PROMISES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(lambda items: BindingData(collection=BindingDataCollection(bindings=items))),
        st.dictionaries(NAMES, inner, max_size=2).map(lambda items: BindingData(map=BindingDataMap(bindings=items))),
    ),
    max_leaves=4,
)
BINDINGS = st.dictionaries(NAMES, DATA, max_size=3)
ALL_TASKS = [*TASKS, task("union", {"u": union(list_of(INTEGER), STRING)}, {"o0": union(INTEGER, STRING)})]
TASK_NAMES = st.sampled_from([each.template.id.name for each in ALL_TASKS] + ["absent"])
WORKFLOWS = st.sampled_from(["one", "two", "absent"])


def targetless(node_id: str) -> Node:
    return Node(id=node_id)


def signal(node_id: str) -> Node:
    node = Node(id=node_id)
    node.gate_node.signal.type.CopyFrom(INTEGER)
    node.gate_node.signal.output_variable_name = "o0"
    return node


SIMPLE = st.one_of(
    st.builds(lambda node_id, name, given: run(node_id, name, **given), NODE_IDS, TASK_NAMES, BINDINGS),
    st.builds(lambda node_id, name, given: sub(node_id, name, **given), NODE_IDS, WORKFLOWS, BINDINGS),
    st.builds(lambda node_id, name, given: launch(node_id, name, **given), NODE_IDS, WORKFLOWS, BINDINGS),
    st.builds(lambda node_id, given: approve(node_id, **given), NODE_IDS, BINDINGS),
    st.builds(signal, NODE_IDS),
    st.builds(targetless, NODE_IDS),
)


def repeating(node_id: str, inner: Node) -> Node:
    node = Node(id=node_id)
    node.array_node.node.CopyFrom(inner)
    return node


def joined(node: Node, upstream: list[str], aliases: dict[str, str]) -> Node:
    node.upstream_node_ids.extend(upstream)
    node.output_aliases.extend(Alias(var=var, alias=alias) for var, alias in aliases.items())
    return node


NODES = st.builds(
    joined,
    st.recursive(
        SIMPLE,
        lambda inner: st.one_of(
            st.builds(
                lambda node_id, cases, given: branch(node_id, *cases, **given),
                NODE_IDS,
                st.lists(inner, min_size=1, max_size=3),
                BINDINGS,
            ),
            st.builds(repeating, NODE_IDS, inner),
        ),
        max_leaves=4,
    ),
    st.lists(NODE_IDS, max_size=2),
    st.dictionaries(NAMES, NAMES, max_size=1),
)


def templates(name: str) -> st.SearchStrategy[WorkflowTemplate]:
    return st.builds(
        lambda nodes, inputs, outputs, failure: workflow(
            *nodes, name=name, inputs=inputs, outputs=outputs, failure=failure
        ),
        st.lists(NODES, min_size=1, max_size=5),
        st.dictionaries(NAMES, TYPES, max_size=3),
        st.dictionaries(NAMES, st.tuples(TYPES, DATA), max_size=2),
        st.none() | NODES,
    )


@settings(max_examples=150)
@given(templates("wf"), st.lists(st.sampled_from(["one", "two"]).flatmap(templates), max_size=2))
def test_random_workflows_compile_soundly_or_are_refused(
    template: WorkflowTemplate, sub_workflows: list[WorkflowTemplate]
) -> None:
    plan = LaunchPlan(id=identifier("one", ResourceType.LAUNCH_PLAN))
    plan.closure.expected_inputs.SetInParent()
    before = template.SerializeToString(deterministic=True)
    closures: list[CompiledWorkflowClosure] = []
    failures: list[str] = []
    for _ in range(2):
        try:
            requirements(template, sub_workflows)
            closures.append(compile_workflow(template, sub_workflows, ALL_TASKS, [plan]))
        except CompilationFailed as failed:
            failures.append(str(failed))
    assert template.SerializeToString(deterministic=True) == before
    assert (len(closures), len(failures)) in {(0, 2), (2, 0)}
    assert len(set(failures)) <= 1
    if closures:
        one, other = (closure.SerializeToString(deterministic=True) for closure in closures)
        assert one == other
        assert_sound(closures[0])


def assert_sound(closure: CompiledWorkflowClosure) -> None:
    """Check that all connected nodes exist, and every top-level node has edges in and out."""
    template, connections = closure.primary.template, closure.primary.connections
    own = [node.id for node in template.nodes]
    assert own[:2] == ["start-node", "end-node"]
    assert len(own) == len(set(own))
    every = {node.id for node in every_node(template)}
    assert set(connections.upstream) <= every
    assert set(connections.downstream) <= set(own)
    for node_id in own[2:]:
        assert connections.upstream[node_id].ids
        following = connections.downstream[node_id].ids
        assert following
        assert list(following) == sorted(set(following))
