"""Interfaces of nodes: launch plans, arrays, gates, branches, aliases (compiler.md#node-interfaces)."""

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.interface_pb2 import Parameter, Variable
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.core.workflow_pb2 import Alias, ArrayNode, Node

from tests.unit.registry.compiler.drawing import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    STRING,
    approve,
    array,
    arrows,
    branch,
    codes,
    compiled,
    identifier,
    interface,
    launch,
    list_of,
    run,
    sub,
    task,
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


def test_array_of_an_interface_without_lists_has_lists_of_it() -> None:
    plan = launch_plan("lp", {"a": required(INTEGER), "b": required(STRING)}, {"o0": FLOAT})
    mapped = array("n0", launch("", "lp", a=".xs", b=".s"), a=".xs", b=".s")
    mapped.array_node.is_original_sub_node_interface.value = True
    mapped.array_node.bound_inputs.append("b")
    template = workflow(mapped, inputs={"xs": list_of(INTEGER), "s": STRING}, outputs={"o": (list_of(FLOAT), "n0.o0")})
    assert not codes(template, launch_plans=[plan])
    template.nodes[0].array_node.is_original_sub_node_interface.value = False
    assert codes(template, launch_plans=[plan]) == {("MismatchingTypes", "n0"), ("MismatchingTypes", "end-node")}


def test_settings_of_an_array_are_stored() -> None:
    template = workflow(run("n0", "many"), array("n1", run("", "sum"), xs="n0.o0"), outputs={"o": (INTEGER, "n1.o0")})
    sent = template.nodes[1].array_node
    sent.parallelism = 3
    sent.min_success_ratio = 0.5
    sent.execution_mode = ArrayNode.FULL_STATE
    sent.data_mode = ArrayNode.INDIVIDUAL_INPUT_FILES
    sent.is_original_sub_node_interface.value = False
    sent.bound_inputs.append("xs")
    assert compiled(template).primary.template.nodes[3].array_node == sent
    sent.min_successes = 7
    sent.parallelism = 2**32 - 1
    assert compiled(template).primary.template.nodes[3].array_node == sent


def test_ids_inside_a_branch_of_an_array_are_prefixed() -> None:
    template = workflow(array("n0", branch("b", run("i", "nothing"), x=".x"), x=".x"), inputs={"x": INTEGER})
    repeated = compiled(template).primary.template.nodes[2].array_node.node
    assert repeated.branch_node.if_else.case.then_node.id == "b-i"


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


def test_aliases_replace_output_names() -> None:
    node = run("n0", "make")
    node.output_aliases.append(Alias(var="o0", alias="better"))
    assert not codes(workflow(node, outputs={"o": (INTEGER, "n0.better")}))
    assert ("VariableNameNotFound", "n0") in codes(workflow(node, outputs={"o": (INTEGER, "n0.o0")}))


def test_outputs_of_a_branch_are_those_that_all_cases_have() -> None:
    more = task("more", outputs={"o0": INTEGER, "o1": STRING})
    node = branch("n0", run("i", "more"), otherwise=run("j", "make"), x=".x")
    inputs = {"x": INTEGER}
    assert not codes(workflow(node, inputs=inputs, outputs={"o": (INTEGER, "n0.o0")}), tasks=[more])
    lost = workflow(node, inputs=inputs, outputs={"o": (STRING, "n0.o1")})
    assert ("VariableNameNotFound", "n0") in codes(lost, tasks=[more])
