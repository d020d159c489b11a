"""Compilation of a workflow: the closure (compiler.md#compileworkflow, compiler.md#compiled-closure)."""

from itertools import pairwise

from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.tasks_pb2 import Resources
from flyteidl.core.workflow_pb2 import Node, WorkflowMetadata, WorkflowTemplate

from services.registry.compiler import requirements
from tests.unit.registry.compiler.drawing import (
    INTEGER,
    STRING,
    array,
    arrows,
    bindings,
    branch,
    codes,
    compiled,
    identifier,
    interface,
    launch,
    run,
    sources,
    sub,
    task,
    workflow,
)


def test_start_and_end_come_first_and_outputs_are_bound_to_the_end() -> None:
    template = workflow(run("n0", "double", x=".x"), inputs={"x": INTEGER}, outputs={"o": (INTEGER, "n0.o0")})
    primary = compiled(template).primary
    start, end, client = primary.template.nodes
    assert start == Node(id="start-node")
    assert end == Node(id="end-node", inputs=bindings({"o": "n0.o0"}))
    assert client.inputs[0].binding.promise.node_id == "start-node"
    assert arrows(primary.connections) == {"n0": ["end-node"], "start-node": ["n0"]}
    assert sources(primary.connections) == {"end-node": ["n0"], "n0": ["start-node"]}


def test_workflow_output_may_pass_an_input_through() -> None:
    template = workflow(run("n0", "nothing"), inputs={"x": INTEGER}, outputs={"o": (INTEGER, ".x")})
    primary = compiled(template).primary
    assert primary.template.outputs[0].binding.promise.node_id == "start-node"
    assert primary.template.nodes[1].inputs == primary.template.outputs
    assert arrows(primary.connections) == {"n0": ["end-node"], "start-node": ["end-node", "n0"]}


def test_request_is_not_altered_and_compiles_the_same_again() -> None:
    inner = workflow(branch("n0", run("n1", "nothing"), x=".x"), name="inner", inputs={"x": INTEGER})
    template = workflow(
        branch("n0", run("n1", "double", x=".x"), x=".x"), sub("n1", "inner", x=".x"), inputs={"x": INTEGER}
    )
    before = template.SerializeToString(deterministic=True), inner.SerializeToString(deterministic=True)
    once = compiled(template, [inner])
    again = compiled(template, [inner])
    assert once.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    assert before == (template.SerializeToString(deterministic=True), inner.SerializeToString(deterministic=True))


def test_workflow_without_interface_gets_an_empty_one() -> None:
    template = workflow(run("n0", "nothing"))
    template.ClearField("interface")
    assert compiled(template).primary.template.interface == interface()
    template.outputs.extend(bindings({"o": 1}))
    assert codes(template) == {("VariableNameNotFound", "end-node")}


def test_closure_has_each_required_task_once_in_order() -> None:
    bare = task("bare")
    bare.template.interface.ClearField("inputs")
    template = workflow(run("n0", "nothing"), run("n1", "bare"), run("n2", "nothing"))
    closure = compiled(template, tasks=[bare, task("unused")])
    assert [each.template.id.name for each in closure.tasks] == ["bare", "nothing"]
    assert closure.tasks[0].template.interface == interface()
    assert not bare.template.interface.HasField("inputs")


def test_task_without_interface_has_no_inputs() -> None:
    bare = task("bare")
    bare.template.ClearField("interface")
    closure = compiled(workflow(run("n0", "bare")), tasks=[bare])
    assert closure.tasks == [bare]


def test_first_of_tasks_with_one_id_counts() -> None:
    template = workflow(run("n0", "t", x=1))
    assert not codes(template, tasks=[task("t", {"x": INTEGER}), task("t", {"x": STRING})])


def test_worked_branch_example() -> None:
    node = branch("n0", run("n0", "double", x=".my_input"), run("n1", "double", x=".my_input"), x=".my_input")
    template = workflow(node, inputs={"my_input": INTEGER}, outputs={"o0": (INTEGER, "n0.o0")})
    primary = compiled(template).primary
    assert arrows(primary.connections) == {"n0": ["end-node"], "start-node": ["n0"]}
    assert sources(primary.connections) == {
        "n0": ["start-node"],
        "n0-n0": ["start-node"],
        "n0-n1": ["start-node"],
        "end-node": ["n0"],
    }


def test_explicit_ordering_example() -> None:
    node = branch("n1", run("n1", "nothing"), x=".x")
    node.upstream_node_ids.append("n0")
    template = workflow(run("n0", "nothing"), node, run("n2", "nothing", ["n1"]), inputs={"x": INTEGER})
    assert arrows(compiled(template).primary.connections) == {
        "start-node": ["n0", "n1"],
        "n0": ["n1"],
        "n1": ["n2"],
        "n2": ["end-node"],
    }


def test_upstream_ids_are_sorted() -> None:
    template = workflow(run("a", "nothing"), run("b", "nothing"), run("c", "nothing", ["b", "a"]))
    assert list(compiled(template).primary.template.nodes[4].upstream_node_ids) == ["a", "b"]


def test_ids_inside_nested_branches_are_prefixed_once_for_each_branch() -> None:
    inner = branch("n0", run("n1", "double", x=".x"), otherwise=run("n2", "make"), x=".x")
    template = workflow(branch("n0", inner, x=".x"), inputs={"x": INTEGER}, outputs={"o": (INTEGER, "n0.o0")})
    primary = compiled(template).primary
    case = primary.template.nodes[2].branch_node.if_else.case.then_node
    assert case.id == "n0-n0"
    assert case.branch_node.if_else.case.then_node.id == "n0-n0-n1"
    assert case.branch_node.if_else.else_node.id == "n0-n0-n2"
    assert set(primary.connections.upstream) == {"n0", "n0-n0", "n0-n0-n1", "end-node"}


def test_sub_workflow_is_compiled_once_however_many_use_it() -> None:
    inner = workflow(branch("n0", run("n1", "nothing"), x=".x"), name="inner", inputs={"x": INTEGER})
    middle = workflow(sub("n0", "inner", x=".x"), name="middle", inputs={"x": INTEGER})
    unused = workflow(run("n0", "nothing"), name="unused")
    template = workflow(sub("n0", "inner", x=".x"), sub("n1", "middle", x=".x"), inputs={"x": INTEGER})
    closure = compiled(template, [unused, middle, inner])
    assert [each.template.id.name for each in closure.sub_workflows] == ["unused", "middle", "inner"]
    raw, first, second = closure.sub_workflows
    assert raw.template == unused
    assert not raw.HasField("connections")
    assert arrows(first.connections) == {"start-node": ["n0"], "n0": ["end-node"]}
    assert second.template.nodes[2].branch_node.if_else.case.then_node.id == "n0-n1"
    assert [each.template.id.name for each in closure.tasks] == ["nothing"]


def test_thousand_sub_workflows_inside_one_another_are_compiled() -> None:
    chain = [workflow(sub("n", f"s{i + 1}"), name=f"s{i}") for i in range(3000)]
    chain.append(workflow(run("n", "nothing"), name="s3000"))
    closure = compiled(workflow(sub("n", "s0")), chain)
    assert all(each.HasField("connections") for each in closure.sub_workflows)


def test_failure_node_has_upstream_edges_only() -> None:
    failure = run("fn", "double", ["n0"], x=".x")
    template = workflow(run("n0", "nothing"), inputs={"x": INTEGER}, failure=failure)
    primary = compiled(template).primary
    assert arrows(primary.connections) == {"start-node": ["n0"], "n0": ["end-node"]}
    assert sources(primary.connections) == {"n0": ["start-node"], "end-node": ["n0"], "fn": ["start-node"]}
    assert [node.id for node in primary.template.nodes] == ["start-node", "end-node", "n0"]
    assert primary.template.failure_node.inputs[0].binding.promise.node_id == "start-node"


def test_node_metadata_is_stored_and_not_checked() -> None:
    node = run("n0", "nothing")
    node.metadata.interruptible = False
    node.metadata.cacheable = True
    node.metadata.cache_version = "7"
    node.metadata.cache_serializable = True
    node.metadata.timeout.seconds = -1
    node.metadata.retries.retries = 9
    node.task_node.overrides.resources.limits.add(name=Resources.CPU, value="much")
    node.task_node.overrides.container_image = "other"
    template = workflow(node)
    template.metadata.on_failure = WorkflowMetadata.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE
    template.metadata_defaults.interruptible = True
    primary = compiled(template).primary.template
    assert primary.nodes[2] == node
    assert (primary.metadata, primary.metadata_defaults) == (template.metadata, template.metadata_defaults)


def test_upstream_node_without_a_name_is_the_start() -> None:
    primary = compiled(workflow(run("n0", "nothing", [""]))).primary
    assert arrows(primary.connections)["start-node"] == ["n0"]
    assert list(primary.template.nodes[2].upstream_node_ids) == [""]


def test_walk_follows_each_edge_of_layered_diamonds_once() -> None:
    layers = [[f"n{layer}-{i}" for i in range(4)] for layer in range(200)]
    nodes = [run(node_id, "nothing") for node_id in layers[0]]
    for before, after in pairwise(layers):
        nodes += [run(node_id, "nothing", before) for node_id in after]
    assert not codes(workflow(*nodes))


def test_requirements_are_sorted_and_unique() -> None:
    inner = workflow(run("n0", "zeta"), launch("n1", "plan"), name="inner")
    nodes = [sub("n0", "inner"), array("n1", run("", "alpha")), branch("n2", run("i", "mid"), run("j", "zeta"))]
    needed = requirements(workflow(*nodes, failure=run("f", "beta")), [inner])
    assert [each.name for each in needed.tasks] == ["alpha", "beta", "mid", "zeta"]
    assert [each.name for each in needed.launch_plans] == ["plan"]


def test_requirements_leave_out_what_is_not_reached_or_not_there() -> None:
    unused = workflow(run("n0", "nothing"), name="unused")
    needed = requirements(workflow(sub("n0", "absent")), [unused])
    assert (needed.tasks, needed.launch_plans) == ([], [])


def test_ids_may_have_any_characters() -> None:
    template = WorkflowTemplate(id=identifier("wf"), nodes=[run("I'm a node", "nothing")])
    assert arrows(compiled(template).primary.connections)["start-node"] == ["I'm a node"]


def test_same_node_may_be_in_two_cases() -> None:
    same = run("i", "make")
    template = workflow(branch("n0", same, otherwise=same, x=".x"), inputs={"x": INTEGER})
    assert not codes(template)


def test_task_reference_without_type_means_no_stored_task() -> None:
    template = workflow(run("n0", "nothing"))
    template.nodes[0].task_node.reference_id.ClearField("resource_type")
    assert codes(template) == {("TaskReferenceNotFound", "start-node")}


def test_compiled_tasks_are_not_altered() -> None:
    bare = CompiledTask(template=task("t").template)
    bare.template.interface.Clear()
    compiled(workflow(run("n0", "t")), tasks=[bare])
    assert not bare.template.interface.ListFields()
