"""Bindings that fit: optional inputs, promises, unions, attribute paths (compiler.md#bindings)."""

from flyteidl.core.literals_pb2 import BindingData, BindingDataCollection, Scalar, Void

from tests.unit.registry.compiler.drawing import (
    INTEGER,
    NONE,
    STRING,
    STRUCT,
    approve,
    arrows,
    attribute,
    branch,
    codes,
    compiled,
    dataclass,
    interface,
    list_of,
    map_of,
    promise,
    run,
    sources,
    task,
    union,
    workflow,
)


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
