"""Compilation of a workflow: the closure (compiler.md#compileworkflow, compiler.md#compiled-closure)."""

from itertools import pairwise

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.interface_pb2 import Parameter, Variable
from flyteidl.core.literals_pb2 import BindingData, BindingDataCollection, Scalar, Void
from flyteidl.core.tasks_pb2 import Resources
from flyteidl.core.types_pb2 import LiteralType, PromiseAttribute, SimpleType, TypeStructure
from flyteidl.core.workflow_pb2 import Alias, ArrayNode, Node, WorkflowMetadata, WorkflowTemplate

from services.registry.compiler import requirements
from tests.unit.registry.compiler.drawing import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    NONE,
    STRING,
    STRUCT,
    approve,
    arrows,
    bindings,
    branch,
    codes,
    compiled,
    identifier,
    interface,
    launch,
    list_of,
    map_of,
    promise,
    run,
    sources,
    sub,
    task,
    union,
    workflow,
)


def launch_plan(name: str, parameters: dict[str, Parameter], outputs: dict[str, LiteralType] | None) -> LaunchPlan:
    plan = LaunchPlan(id=identifier(name, ResourceType.LAUNCH_PLAN))
    plan.closure.expected_inputs.SetInParent()
    for key, parameter in parameters.items():
        plan.closure.expected_inputs.parameters[key].CopyFrom(parameter)
    if outputs is not None:
        plan.closure.expected_outputs.CopyFrom(interface(outputs=outputs).outputs)
    return plan


def required(literal_type: LiteralType) -> Parameter:
    return Parameter(var=Variable(type=literal_type), required=True)


def optional(literal_type: LiteralType) -> Parameter:
    parameter = Parameter(var=Variable(type=literal_type))
    parameter.default.scalar.none_type.SetInParent()
    return parameter


def array(node_id: str, inner: Node, **given: str) -> Node:
    node = Node(id=node_id, inputs=bindings(given))
    node.array_node.node.CopyFrom(inner)
    return node


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


def test_launch_plan_node_has_required_inputs_and_optional_ones_that_are_bound() -> None:
    plan = launch_plan("lp", {"a": required(INTEGER), "b": optional(STRING)}, {"o0": FLOAT})
    for given in ({"a": ".x"}, {"a": ".x", "b": "s0.o0"}):
        nodes = [launch("n0", "lp", **given), run("s0", "spell", s=".s")]
        template = workflow(*nodes, inputs={"x": INTEGER, "s": STRING}, outputs={"o": (FLOAT, "n0.o0")})
        assert not codes(template, launch_plans=[plan])
    wrong = workflow(launch("n0", "lp", b=".x", fixed=".x"), inputs={"x": INTEGER})
    assert codes(wrong, launch_plans=[plan]) == {
        ("ParameterNotBound", "n0"),
        ("MismatchingTypes", "n0"),
        ("VariableNameNotFound", "n0"),
    }


def test_launch_plan_without_outputs_has_none() -> None:
    assert not codes(workflow(launch("n0", "lp")), launch_plans=[launch_plan("lp", {}, None)])


def test_launch_plan_reference_to_the_workflow_itself_has_its_interface() -> None:
    template = workflow(launch("n0", "wf", x=".x"), inputs={"x": INTEGER}, outputs={"o": (INTEGER, "n0.o")})
    template.nodes[0].workflow_node.launchplan_ref.CopyFrom(template.id)
    assert not codes(template)


def test_array_has_the_interface_of_the_repeated_node() -> None:
    template = workflow(
        run("n0", "many"),
        array("n1", run("", "sum"), xs="n0.o0"),
        outputs={"o": (INTEGER, "n1.o0")},
    )
    assert not codes(template)
    assert not compiled(template).primary.template.nodes[3].array_node.node.id


def test_settings_of_an_array_are_stored_and_leave_its_interface() -> None:
    """The interface is that of the repeated node, even if a client sends one that takes no lists."""
    template = workflow(run("n0", "many"), array("n1", run("", "sum"), xs="n0.o0"), outputs={"o": (INTEGER, "n1.o0")})
    sent = template.nodes[1].array_node
    sent.parallelism = 3
    sent.min_success_ratio = 0.5
    sent.execution_mode = ArrayNode.FULL_STATE
    sent.data_mode = ArrayNode.INDIVIDUAL_INPUT_FILES
    sent.is_original_sub_node_interface.value = True
    sent.bound_inputs.append("xs")
    assert compiled(template).primary.template.nodes[3].array_node == sent
    sent.min_successes = 7
    sent.parallelism = 2**32 - 1
    assert compiled(template).primary.template.nodes[3].array_node == sent


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


def test_ids_inside_a_branch_of_an_array_are_prefixed() -> None:
    template = workflow(array("n0", branch("b", run("i", "nothing"), x=".x"), x=".x"), inputs={"x": INTEGER})
    repeated = compiled(template).primary.template.nodes[2].array_node.node
    assert repeated.branch_node.if_else.case.then_node.id == "b-i"


def test_upstream_node_without_a_name_is_the_start() -> None:
    primary = compiled(workflow(run("n0", "nothing", [""]))).primary
    assert arrows(primary.connections)["start-node"] == ["n0"]
    assert list(primary.template.nodes[2].upstream_node_ids) == [""]


def test_sub_workflow_inside_an_array_is_compiled() -> None:
    inner = workflow(run("n0", "nothing"), name="inner")
    closure = compiled(workflow(array("n0", sub("", "inner"))), [inner])
    assert closure.sub_workflows[0].HasField("connections")


def test_interfaces_of_gates() -> None:
    signal = Node(id="signal")
    signal.gate_node.signal.type.CopyFrom(BOOLEAN)
    signal.gate_node.signal.output_variable_name = "o0"
    sleep = Node(id="sleep", upstream_node_ids=["signal"])
    sleep.gate_node.sleep.SetInParent()
    template = workflow(
        run("n0", "make"),
        signal,
        sleep,
        approve("approve", v="n0.o0"),
        outputs={"o": (INTEGER, "approve.v"), "b": (BOOLEAN, "signal.o0")},
    )
    assert arrows(compiled(template).primary.connections) == {
        "start-node": ["n0", "signal"],
        "n0": ["approve"],
        "approve": ["end-node"],
        "signal": ["end-node", "sleep"],
        "sleep": ["end-node"],
    }


def test_nodes_whose_outputs_depend_on_inputs_may_be_listed_first() -> None:
    nodes = [
        branch("n0", run("i", "double", x="n1.v"), x="n1.v"),
        approve("n1", v="n2.v"),
        approve("n2", v="n3.o0"),
        run("n3", "make"),
    ]
    template = workflow(*nodes, outputs={"o": (INTEGER, "n0.o0")})
    assert not codes(template)
    assert codes(workflow(*reversed(nodes), outputs={"o": (STRING, "n0.o0")})) == {("MismatchingTypes", "end-node")}


def test_long_chain_of_approvals_listed_backwards_compiles() -> None:
    nodes = [approve(f"n{i}", v=f"n{i + 1}.v") for i in range(2000)]
    assert not codes(workflow(*nodes, approve("n2000", v=".x"), inputs={"x": INTEGER}))


def test_walk_follows_each_edge_of_layered_diamonds_once() -> None:
    layers = [[f"n{layer}-{i}" for i in range(4)] for layer in range(200)]
    nodes = [run(node_id, "nothing") for node_id in layers[0]]
    for before, after in pairwise(layers):
        nodes += [run(node_id, "nothing", before) for node_id in after]
    assert not codes(workflow(*nodes))


def test_aliases_replace_output_names() -> None:
    node = run("n0", "make")
    node.output_aliases.append(Alias(var="o0", alias="better"))
    assert not codes(workflow(node, outputs={"o": (INTEGER, "n0.better")}))
    assert ("VariableNameNotFound", "n0") in codes(workflow(node, outputs={"o": (INTEGER, "n0.o0")}))


def test_optional_inputs_and_outputs_may_be_left_out() -> None:
    maybe = task("maybe", {"x": union(INTEGER, NONE)})
    template = workflow(run("n0", "maybe"))
    template.interface.CopyFrom(interface(outputs={"o": union(NONE, STRING)}))
    assert not codes(template, tasks=[maybe])
    strict = task("strict", {"x": union(INTEGER, list_of(STRING))})
    assert codes(workflow(run("n0", "strict")), tasks=[strict]) == {("ParameterNotBound", "n0")}


def test_promises_inside_lists_and_maps_make_edges() -> None:
    both = BindingData(collection=BindingDataCollection(bindings=[promise("n0.o0"), promise("n1.o0")]))
    template = workflow(run("n0", "make"), run("n1", "make"), run("n2", "sum", xs=both))
    assert arrows(compiled(template).primary.connections)["n0"] == ["n2"]
    nested = task("nested", {"m": map_of(list_of(INTEGER))})
    data = BindingData()
    data.map.bindings["k"].CopyFrom(both)
    template = workflow(run("n0", "make"), run("n1", "make"), run("n2", "nested", m=data))
    assert sources(compiled(template, tasks=[nested]).primary.connections)["n2"] == ["n0", "n1"]


def test_list_for_a_union_takes_the_variant_that_fits() -> None:
    either = task("either", {"x": union(list_of(INTEGER), list_of(STRING))})
    data = BindingData(collection=BindingDataCollection(bindings=[promise("n0.o0"), promise(".x")]))
    template = workflow(run("n0", "make"), run("n1", "either", x=data), inputs={"x": INTEGER})
    assert sources(compiled(template, tasks=[either]).primary.connections)["n1"] == ["n0", "start-node"]


def dataclass(**fields: LiteralType) -> LiteralType:
    structure = TypeStructure(dataclass_type=fields)
    return LiteralType(simple=SimpleType.STRUCT, structure=structure)


def attribute(text: str, *path: str | int) -> BindingData:
    data = promise(text)
    for step in path:
        named = isinstance(step, str)
        data.promise.attr_path.append(
            PromiseAttribute(string_value=str(step)) if named else PromiseAttribute(int_value=int(step))
        )
    return data


def test_attribute_paths_lead_to_the_type_inside() -> None:
    deep = dataclass(rows=list_of(map_of(dataclass(n=INTEGER))))
    inputs = {"d": deep, "plain": STRUCT}
    right = workflow(run("n0", "double", x=attribute(".d", "rows", 3, "key", "n")), inputs=inputs)
    assert not codes(right)
    wrong = workflow(run("n0", "spell", s=attribute(".d", "rows", 3, "key", "n")), inputs=inputs)
    assert codes(wrong) == {("MismatchingTypes", "n0")}
    absent = workflow(run("n0", "double", x=attribute(".d", "columns")), inputs=inputs)
    assert codes(absent) == {("FieldNotFound", "n0")}
    takes_struct = task("struct", {"s": STRUCT})
    unknown = workflow(run("n0", "struct", s=attribute(".plain", "any", "thing")), inputs=inputs)
    assert not codes(unknown, tasks=[takes_struct])


def test_index_before_the_variable_selects_from_a_list() -> None:
    assert not codes(workflow(run("n0", "many"), run("n1", "double", x="n0.[0].o0")))
    assert codes(workflow(run("n0", "make"), run("n1", "double", x="n0.[0].o0"))) == {("MismatchingTypes", "n1")}


def test_branches_and_approvals_have_the_type_of_the_selected_attribute() -> None:
    inputs = {"d": dataclass(n=INTEGER)}
    chosen = branch("n0", run("i", "nothing"), x=attribute(".d", "n"))
    assert not codes(workflow(chosen, inputs=inputs))
    gate = approve("n0", v=attribute(".d", "n"))
    assert not codes(workflow(gate, inputs=inputs, outputs={"o": (INTEGER, "n0.v")}))


def test_variable_may_be_compared_with_nothing() -> None:
    node = branch("n0", run("i", "nothing"), x=".x")
    operand = node.branch_node.if_else.case.condition.comparison.right_value
    operand.scalar.CopyFrom(Scalar(none_type=Void()))
    assert not codes(workflow(node, inputs={"x": union(INTEGER, NONE)}))
    assert codes(workflow(node, inputs={"x": INTEGER})) == {("MismatchingTypes", "n0")}


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


def test_outputs_of_a_branch_are_those_that_all_cases_have() -> None:
    more = task("more", outputs={"o0": INTEGER, "o1": STRING})
    node = branch("n0", run("i", "more"), otherwise=run("j", "make"), x=".x")
    inputs = {"x": INTEGER}
    assert not codes(workflow(node, inputs=inputs, outputs={"o": (INTEGER, "n0.o0")}), tasks=[more])
    lost = workflow(node, inputs=inputs, outputs={"o": (STRING, "n0.o1")})
    assert ("VariableNameNotFound", "n0") in codes(lost, tasks=[more])


def test_task_reference_without_type_means_no_stored_task() -> None:
    template = workflow(run("n0", "nothing"))
    template.nodes[0].task_node.reference_id.ClearField("resource_type")
    assert codes(template) == {("TaskReferenceNotFound", "start-node")}


def test_compiled_tasks_are_not_altered() -> None:
    bare = CompiledTask(template=task("t").template)
    bare.template.interface.Clear()
    compiled(workflow(run("n0", "t")), tasks=[bare])
    assert not bare.template.interface.ListFields()
