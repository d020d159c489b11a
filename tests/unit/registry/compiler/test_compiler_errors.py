"""Compilation of a workflow: errors by code and node (compiler.md#error-codes)."""

from collections.abc import Sequence

import pytest
from flyteidl.core.condition_pb2 import BooleanExpression, Operand
from flyteidl.core.literals_pb2 import Binding, BindingData, BindingDataCollection, BindingDataMap, Literal, Scalar
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl.core.workflow_pb2 import Alias, Node, WorkflowTemplate

from services.registry.compiler import CompilationFailed, requirements
from services.registry.compiler.errors import MAX_ERRORS
from tests.support.values import FITTING, FOREIGN_COLORS
from tests.unit.registry.compiler.drawing import (
    FLOAT,
    INTEGER,
    STRING,
    approve,
    branch,
    codes,
    compiled,
    enum,
    integer,
    interface,
    launch,
    list_of,
    map_of,
    run,
    string,
    sub,
    task,
    union,
    workflow,
)

TASKS = [
    task("enum", {"e": enum("a", "b")}),
    task("union", {"u": union(list_of(INTEGER), list_of(list_of(INTEGER)))}),
    task("map", {"m": map_of(INTEGER)}),
    task("float", outputs={"o0": FLOAT}),
]
X = {"x": INTEGER}


def collection(*items: BindingData) -> BindingData:
    return BindingData(collection=BindingDataCollection(bindings=items))


def mapping(**items: BindingData) -> BindingData:
    return BindingData(map=BindingDataMap(bindings=items))


def gate(**fields: object) -> Node:
    node = Node(id="n0")
    node.gate_node.signal.SetInParent()
    for name, value in fields.items():
        if isinstance(value, LiteralType):
            node.gate_node.signal.type.CopyFrom(value)
        else:
            setattr(node.gate_node.signal, name, value)
    return node


def broken_branch(*path: str) -> WorkflowTemplate:
    """Return a branch without the part at `path`."""
    node = branch("n0", run("i", "nothing"), run("j", "nothing"), x=".x")
    parent = node.branch_node
    for name in path[:-1]:
        parent = getattr(parent, name)
    parent.ClearField(path[-1])
    return workflow(node, inputs=X)


def comparing(right: Operand | None = None, left: Operand | None = None) -> WorkflowTemplate:
    node = branch("n0", run("i", "nothing"), x=".x")
    comparison = node.branch_node.if_else.case.condition.comparison
    comparison.Clear()
    if right is not None:
        comparison.right_value.CopyFrom(right)
    if left is not None:
        comparison.left_value.CopyFrom(left)
    return workflow(node, inputs=X)


def with_condition(expression: BooleanExpression) -> WorkflowTemplate:
    node = branch("n0", run("i", "nothing"), x=".x")
    node.branch_node.if_else.case.condition.CopyFrom(expression)
    return workflow(node, inputs=X)


def aliased(*aliases: tuple[str, str]) -> WorkflowTemplate:
    node = run("n0", "make")
    node.output_aliases.extend(Alias(var=var, alias=alias) for var, alias in aliases)
    return workflow(node)


def without_interface(template: WorkflowTemplate) -> WorkflowTemplate:
    template.ClearField("interface")
    return template


def untyped() -> WorkflowTemplate:
    template = workflow(run("n0", "nothing"))
    template.interface.inputs.variables["x"].description = "no type"
    template.interface.outputs.variables[""].type.simple = SimpleType.INTEGER
    return template


HALF = BooleanExpression()
HALF.conjunction.left_expression.comparison.SetInParent()
SEVEN = Operand()
SEVEN.primitive.integer = 7
SEVEN_POINT = Operand()
SEVEN_POINT.primitive.float_value = 7.0

REFUSED: dict[str, tuple[WorkflowTemplate, set[tuple[str, str]]]] = {
    "no nodes": (
        workflow(),
        {("NoNodesFound", 'project:"p" domain:"d" name:"wf" version:"v"')},
    ),
    "variables without name or type": (untyped(), {("ValueRequired", "start-node")}),
    "no node id": (workflow(run("", "nothing")), {("ValueRequired", "<node>")}),
    "same id twice": (workflow(run("n0", "nothing"), run("n0", "make")), {("DuplicateId", "n0")}),
    "id of the start": (workflow(run("start-node", "nothing")), {("DuplicateId", "start-node")}),
    "id of the end": (workflow(run("end-node", "nothing")), {("DuplicateId", "end-node")}),
    "failure node of the same id": (
        workflow(run("n0", "nothing"), failure=run("n0", "nothing")),
        {("DuplicateId", "n0")},
    ),
    "id of a node inside a branch": (
        workflow(run("n0-i", "nothing"), branch("n0", run("i", "nothing"), x=".x"), inputs=X),
        {("DuplicateId", "n0-i")},
    ),
    "different cases of one id": (
        workflow(branch("n0", run("i", "nothing"), run("i", "make"), x=".x"), inputs=X),
        {("DuplicateId", "n0-i")},
    ),
    "no target": (workflow(Node(id="n0")), {("ValueRequired", "n0")}),
    "no task reference": (workflow(Node(id="n0", task_node={})), {("ValueRequired", "n0")}),
    "unknown task": (workflow(run("n0", "absent")), {("TaskReferenceNotFound", "start-node")}),
    "unknown task of the failure node": (
        workflow(run("n0", "nothing"), failure=run("f", "absent")),
        {("TaskReferenceNotFound", "start-node")},
    ),
    "unknown launch plan": (workflow(launch("n0", "absent")), {("WorkflowReferenceNotFound", "start-node")}),
    "unknown sub-workflow": (workflow(sub("n0", "absent")), {("WorkflowReferenceNotFound", "n0")}),
    "empty workflow node": (workflow(Node(id="n0", workflow_node={})), {("WorkflowReferenceNotFound", "n0")}),
    "unknown upstream node": (workflow(run("n0", "nothing", ["n1"])), {("NodeReferenceNotFound", "n0")}),
    "unknown source": (
        workflow(run("n0", "double", x="n1.o0")),
        {("NodeReferenceNotFound", "n1"), ("ParameterNotBound", "n0")},
    ),
    "unknown output": (
        workflow(run("n0", "make"), run("n1", "double", x="n0.o1")),
        {("VariableNameNotFound", "n0"), ("ParameterNotBound", "n1")},
    ),
    "output of a node inside a branch": (
        workflow(branch("n0", run("i", "make"), x=".x"), run("n1", "double", x="n0-i.o0"), inputs=X),
        {("NodeReferenceNotFound", "n0-i"), ("ParameterNotBound", "n1")},
    ),
    "unknown input": (workflow(run("n0", "nothing", x=1)), {("VariableNameNotFound", "n0")}),
    "unbound input": (workflow(run("n0", "double")), {("ParameterNotBound", "n0")}),
    "unbound output": (
        without_interface(workflow(run("n0", "nothing"), outputs={"o": (INTEGER, 1)})),
        {("VariableNameNotFound", "end-node")},
    ),
    "input bound twice": (
        workflow(Node(id="n0", task_node=run("", "double").task_node, inputs=run("", "double", x=1).inputs[:] * 2)),
        {("ParameterBoundMoreThanOnce", "n0")},
    ),
    "binding without data": (
        workflow(Node(id="n0", task_node=run("", "double").task_node, inputs=[Binding(var="x")])),
        {("ValueRequired", "n0"), ("ParameterNotBound", "n0")},
    ),
    "empty binding": (workflow(run("n0", "double", x=BindingData())), {("MismatchingBindings", "n0")}),
    "wrong constant": (workflow(run("n0", "double", x=string("1"))), {("MismatchingTypes", "n0")}),
    "wrong promise": (
        workflow(run("n0", "spell", s="n1.o0"), run("n1", "make")),
        {("MismatchingTypes", "n0")},
    ),
    "constant that is nothing": (
        workflow(run("n0", "double", x=BindingData(scalar=Scalar()))),
        {("UnrecognizedValue", "n0")},
    ),
    "list for a number": (workflow(run("n0", "double", x=collection())), {("MismatchingBindings", "n0")}),
    "map for a number": (workflow(run("n0", "double", x=mapping())), {("MismatchingBindings", "n0")}),
    "number for a map": (workflow(run("n0", "map", m=1)), {("MismatchingTypes", "n0")}),
    "wrong item": (
        workflow(run("n0", "sum", xs=collection(integer(1), string("2")))),
        {("MismatchingTypes", "n0")},
    ),
    "wrong value in a map": (workflow(run("n0", "map", m=mapping(k=string("2")))), {("MismatchingTypes", "n0")}),
    "value outside an enum": (workflow(run("n0", "enum", e=string("c"))), {("IllegalEnumValue", "n0")}),
    "number for an enum": (
        workflow(run("n0", "enum", e=1)),
        {("IllegalEnumValue", "n0"), ("MismatchingTypes", "n0")},
    ),
    "ambiguous list": (workflow(run("n0", "union", u=collection())), {("AmbiguousBindingUnionValue", "n0")}),
    "list that fits no variant": (
        workflow(run("n0", "union", u=collection(string("a")))),
        {("IncompatibleBindingUnionValue", "n0")},
    ),
    "map that fits no variant": (
        workflow(run("n0", "union", u=mapping())),
        {("IncompatibleBindingUnionValue", "n0")},
    ),
    "repeated alias": (aliased(("o0", "a"), ("o0", "b")), {("DuplicateAlias", "n0")}),
    "alias of nothing": (aliased(("o1", "a")), {("ParameterNotBound", "n0")}),
    "cycle behind the start": (
        workflow(run("a", "nothing"), run("b", "nothing", ["a", "c"]), run("c", "nothing", ["b"])),
        {("CycleDetected", "start-node")},
    ),
    "cycle that nothing leads to": (
        workflow(run("a", "nothing", ["b"]), run("b", "nothing", ["a"]), run("c", "nothing")),
        {("UnreachableNodes", "start-node")},
    ),
    "node that waits for itself": (workflow(run("a", "nothing", ["a"])), {("UnreachableNodes", "start-node")}),
    "gate without condition": (workflow(Node(id="n0", gate_node={})), {("NoConditionFound", "n0")}),
    "signal without type": (workflow(gate(output_variable_name="o0")), {("ValueRequired", "n0")}),
    "signal without variable": (workflow(gate(type=INTEGER)), {("ValueRequired", "n0")}),
    "approvals of one another": (
        workflow(approve("a", v="b.v"), approve("b", v="a.v")),
        {("CycleDetected", "start-node")},
    ),
    "branch on its own output": (
        workflow(branch("n0", run("i", "make"), x="n0.o0")),
        {("CycleDetected", "start-node")},
    ),
    "array of nothing": (workflow(Node(id="n0", array_node={})), {("ValueRequired", "n0")}),
    "branch without anything": (
        broken_branch("if_else"),
        {("ValueRequired", "n0"), ("BranchNodeHasNoCondition", "n0"), ("BranchNodeHasNoDefault", "n0")},
    ),
    "branch without case": (
        broken_branch("if_else", "case"),
        {("ValueRequired", "n0"), ("BranchNodeHasNoCondition", "n0")},
    ),
    "case without node": (
        broken_branch("if_else", "case", "then_node"),
        {("ValueRequired", "n0"), ("BranchNodeIdNotFound", "n0")},
    ),
    "case without condition": (
        broken_branch("if_else", "case", "condition"),
        {("BranchNodeHasNoCondition", "n0")},
    ),
    "branch without default": (broken_branch("if_else", "error"), {("BranchNodeHasNoDefault", "n0")}),
    "cases that disagree": (
        workflow(branch("n0", run("i", "make"), run("j", "float"), x=".x"), inputs=X),
        {("MismatchingTypes", "n0-j")},
    ),
    "list given to a branch": (
        workflow(branch("n0", run("i", "nothing"), x=collection())),
        {("MismatchingBindings", "n0")},
    ),
    "unknown task input inside a branch": (
        workflow(branch("n0", run("i", "double", y=".x"), x=".x"), inputs=X),
        {("VariableNameNotFound", "n0-i"), ("ParameterNotBound", "n0-i")},
    ),
    "comparison of nothing": (comparing(), {("ValueRequired", "n0")}),
    "operands without value": (comparing(Operand(), Operand(scalar=Scalar())), {("ValueRequired", "n0")}),
    "comparison with another type": (comparing(SEVEN_POINT, Operand(var="x")), {("MismatchingTypes", "n0")}),
    "comparison of constants of two types": (comparing(SEVEN_POINT, SEVEN), {("MismatchingTypes", "n0")}),
    "condition on what is not given": (comparing(SEVEN, Operand(var="y")), {("VariableNameNotFound", "n0")}),
    "empty condition": (with_condition(BooleanExpression()), {("ValueRequired", "n0")}),
    "half a conjunction": (with_condition(HALF), {("ValueRequired", "n0"), ("BranchNodeHasNoCondition", "n0")}),
    "failure node without an input": (
        workflow(run("n0", "nothing"), failure=run("f", "double")),
        {("ParameterNotBound", "f")},
    ),
    "id of absurd length": (workflow(run("n" * 1025, "nothing")), {("InvalidValue", "n" * 1024 + "...")}),
}


@pytest.mark.parametrize(("template", "expected"), REFUSED.values(), ids=REFUSED)
def test_wrong_workflow_is_reported_with_the_reason(template: WorkflowTemplate, expected: set[tuple[str, str]]) -> None:
    before = template.SerializeToString(deterministic=True)
    assert {(code, node_id.replace("]...", "")) for code, node_id in codes(template, tasks=TASKS)} >= expected
    assert {code for code, _ in codes(template, tasks=TASKS)} <= {code for code, _ in expected}
    assert template.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("variable", ["a.b", "a-b", "a b", "o0.", "", "ä", "oä", "[x].o0", "[0]o0"])
def test_variable_of_other_characters_is_a_syntax_error(variable: str) -> None:
    template = workflow(run("n0", "double", x=f"n0.{variable}"))
    assert ("SyntaxError", "n0") in codes(template)


def refused(template: WorkflowTemplate, sub_workflows: Sequence[WorkflowTemplate] = ()) -> str:
    with pytest.raises(CompilationFailed) as failed:
        compiled(template, sub_workflows, TASKS)
    return str(failed.value)


def test_wrong_promise_is_reported_with_names_and_types() -> None:
    maker, taker = run("n0", "make"), run("n1", "spell", s="n0.o0")
    maker.metadata.name = "maker"
    taker.metadata.name = "taker"
    assert refused(workflow(maker, taker)) == (
        "Collected Errors: 1\n\tError 0: Code: MismatchingTypes, Node Id: n1, Description: The output variable "
        "'maker.o0' has type [simple:INTEGER], but it's assigned to the input variable 'taker.s' which has type type "
        "[simple:STRING].\n"
    )


def test_cycle_is_reported_as_its_nodes() -> None:
    template = workflow(run("a", "nothing"), run("b", "nothing", ["a", "c"]), run("c", "nothing", ["b"]))
    assert "[b>c>b]" in refused(template)


def test_sub_workflow_with_errors_fails_the_whole() -> None:
    inner = workflow(run("n7", "double"), name="inner")
    assert codes(workflow(sub("n0", "inner")), [inner]) == {("ParameterNotBound", "n7")}
    assert not codes(workflow(run("n0", "nothing")), [inner])


def test_sub_workflow_needs_an_interface() -> None:
    inner = without_interface(workflow(run("n0", "nothing"), name="inner"))
    assert codes(workflow(sub("n0", "inner")), [inner]) == {("ValueRequired", "n0")}


def test_sub_workflow_that_contains_itself_is_a_cycle() -> None:
    one = workflow(sub("n0", "two"), name="one")
    two = workflow(branch("n0", sub("i", "one"), x=1), name="two")
    assert codes(workflow(sub("n0", "one")), [one, two]) == {("CycleDetected", "start-node")}
    assert "[one>two>one]" in refused(workflow(sub("n0", "one")), [one, two])


def test_sub_workflows_need_ids_of_their_own() -> None:
    inner = workflow(run("n0", "nothing"), name="inner")
    nameless = WorkflowTemplate(nodes=inner.nodes)
    template = workflow(run("n0", "nothing"))
    with pytest.raises(CompilationFailed, match=r"Collected Errors: 1\n\tError 0: Code: ValueRequired"):
        requirements(template, [nameless])
    with pytest.raises(CompilationFailed, match="DuplicateId"):
        requirements(template, [inner, inner])


def test_task_without_id_is_refused() -> None:
    bare = task("t")
    bare.template.ClearField("id")
    assert codes(workflow(run("n0", "nothing")), tasks=[bare]) == {("ValueRequired", "task")}


def test_errors_beyond_the_most_are_not_collected() -> None:
    template = workflow(*(run(f"n{i}", "double") for i in range(2 * MAX_ERRORS)))
    assert refused(template).startswith(f"Collected Errors: {MAX_ERRORS}\n")


def test_union_variants_that_do_not_fit_write_no_error_texts() -> None:
    template = workflow(run("n0", "wide", u=collection(*(string("a") for _ in range(2 * MAX_ERRORS)))))
    wide = task("wide", {"u": union(list_of(INTEGER), list_of(STRING))})
    assert not codes(template, tasks=[wide])


def test_types_that_take_too_many_steps_are_an_error() -> None:
    variants = [enum(str(i)) for i in range(3000)]
    giver, taker = task("giver", outputs={"o0": union(*variants)}), task("taker", {"u": union(*reversed(variants))})
    template = workflow(run("n0", "giver"), run("n1", "taker", u="n0.o0"))
    with pytest.raises(CompilationFailed, match="too many to check"):
        compiled(template, tasks=[giver, taker])


def test_template_nested_deeper_than_clients_can_parse_is_an_error() -> None:
    template = workflow(run("n0", "nothing"))
    node = template.nodes[0]
    for _ in range(60):
        node = node.branch_node.if_else.case.then_node
    node.id = "deep"
    requirements(template, [])
    with pytest.raises(CompilationFailed, match="nested too deeply"):
        compiled(template)


def test_names_of_branches_cannot_grow_without_bound() -> None:
    node = branch("n" * 1000, *(run("i" * 30, "nothing") for _ in range(1000)), x=1)
    assert {code for code, _ in codes(workflow(node))} == {"InvalidValue"}


def test_branch_without_cases_that_fit_has_no_interface() -> None:
    template = workflow(branch("n0", Node(id="i"), x=".x"), inputs=X, outputs={"o": (INTEGER, "n0.o")})
    assert codes(template) >= {("ValueRequired", "n0-i"), ("ParameterNotBound", "end-node")}
    assert interface() == compiled(workflow(run("n0", "nothing"))).primary.template.interface


def bound(declared: LiteralType, value: Literal) -> set[tuple[str, str]]:
    """Return the errors of a workflow that binds a constant."""
    constant = BindingData(scalar=value.scalar)
    return codes(workflow(run("n0", "takes", v=constant)), tasks=[task("takes", {"v": declared})])


@pytest.mark.parametrize(("declared", "value"), [case for case in FITTING if case.values[1].HasField("scalar")])
def test_constant_of_the_declared_type_may_be_bound(declared: LiteralType, value: Literal) -> None:
    assert bound(declared, value) == set()


@pytest.mark.parametrize(("declared", "value"), [case for case in FOREIGN_COLORS if case.values[1].HasField("scalar")])
def test_constant_that_an_enum_does_not_have_is_an_error(declared: LiteralType, value: Literal) -> None:
    assert bound(declared, value) == {("IllegalEnumValue", "n0")}
