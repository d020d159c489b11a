"""Texts of errors: code, node and description, word for word (compiler.md#error-descriptions)."""

import pytest
from flyteidl.core.condition_pb2 import BooleanExpression, Operand
from flyteidl.core.literals_pb2 import Binding, BindingData, Scalar
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.core.workflow_pb2 import Alias, Node, WorkflowTemplate

from services.registry.compiler import CompilationFailed
from tests.unit.registry.compiler.drawing import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    NONE,
    approve,
    attribute,
    branch,
    compiled,
    dataclass,
    enum,
    identifier,
    launch,
    list_of,
    run,
    string,
    sub,
    task,
    union,
    workflow,
)

PLACE = 'project:"p" domain:"d"'
UNION = (
    "union_type:{variants:{collection_type:{simple:INTEGER}} "
    "variants:{collection_type:{collection_type:{simple:INTEGER}}}}"
)
X = {"x": INTEGER}


def described(literal_type: LiteralType, words: str) -> LiteralType:
    """Return a type that differs from others only in its description."""
    result = LiteralType()
    result.CopyFrom(literal_type)
    result.metadata["description"] = words
    return result


TASKS = [
    task("enum", {"e": enum("a", "b")}),
    task("union", {"u": union(list_of(INTEGER), list_of(list_of(INTEGER)))}),
    task("float", outputs={"o0": FLOAT}),
    task("described", outputs={"o0": described(INTEGER, "one")}),
    task("redescribed", outputs={"o0": described(INTEGER, "other")}),
]


def one_item(value: BindingData) -> BindingData:
    data = BindingData()
    data.collection.bindings.append(value)
    return data


def aliased(*aliases: tuple[str, str]) -> WorkflowTemplate:
    node = run("n0", "make")
    node.output_aliases.extend(Alias(var=var, alias=alias) for var, alias in aliases)
    return workflow(node)


def gate(node_id: str) -> Node:
    node = Node(id=node_id)
    node.gate_node.SetInParent()
    return node


def choosing(expression: BooleanExpression) -> WorkflowTemplate:
    node = branch("n0", run("i", "nothing"), x=".x")
    node.branch_node.if_else.case.condition.CopyFrom(expression)
    return workflow(node, inputs=X)


def compared(left: Operand, right: Operand) -> BooleanExpression:
    expression = BooleanExpression()
    expression.comparison.left_value.CopyFrom(left)
    expression.comparison.right_value.CopyFrom(right)
    return expression


def seven(*, point: bool = False) -> Operand:
    operand = Operand()
    if point:
        operand.primitive.float_value = 7
    else:
        operand.primitive.integer = 7
    return operand


def undecided() -> WorkflowTemplate:
    node = branch("n0", run("i", "nothing"), x=".x")
    node.branch_node.if_else.ClearField("error")
    node.branch_node.if_else.case.ClearField("condition")
    return workflow(node, inputs=X)


def bound(variable: str) -> str:
    return f"ParameterNotBound on n1: Parameter not bound [{variable}]."


TEXTS: dict[str, tuple[WorkflowTemplate, set[str]]] = {
    "value required": (workflow(Node(id="n0")), {"ValueRequired on n0: Value required [Target]."}),
    "no task reference": (
        workflow(Node(id="n0", task_node={})),
        {"ValueRequired on n0: Value required [TaskNode.ReferenceId]."},
    ),
    "no node id": (workflow(run("", "nothing")), {"ValueRequired on <node>: Value required [Id]."}),
    "array of nothing": (
        workflow(Node(id="n0", array_node={})),
        {"ValueRequired on n0: Value required [ArrayNode.Node]."},
    ),
    "no nodes": (
        workflow(),
        {
            (
                f'NoNodesFound on {PLACE} name:"wf" version:"v": '
                f'Can\'t find any nodes in workflow [{PLACE} name:"wf" version:"v"].'
            )
        },
    ),
    "task not found": (
        workflow(run("n0", "absent")),
        {(f'TaskReferenceNotFound on start-node: Referenced Task [{PLACE} name:"absent" version:"v"] not found.')},
    ),
    "launch plan not found": (
        workflow(launch("n0", "absent")),
        {
            (
                f'WorkflowReferenceNotFound on start-node: Referenced Workflow [{PLACE} name:"absent" '
                'version:"v"] not found.'
            )
        },
    ),
    "sub-workflow not found, on each node that refers to it": (
        workflow(sub("n0", "absent"), sub("n1", "absent"), branch("n2", sub("i", "absent"), x=1)),
        {
            (
                f'WorkflowReferenceNotFound on {node_id}: Referenced Workflow [{PLACE} name:"absent" '
                'version:"v"] not found.'
            )
            for node_id in ("n0", "n1", "i")
        },
    ),
    "node not found": (
        workflow(run("n1", "double", x="n9.o0")),
        {"NodeReferenceNotFound on n9: Referenced node [n9] not found.", bound("x")},
    ),
    "upstream node not found": (
        workflow(run("n1", "nothing", ["n9"])),
        {"NodeReferenceNotFound on n1: Referenced node [n9] not found."},
    ),
    "output not found": (
        workflow(run("n0", "make"), run("n1", "double", x="n0.o9")),
        {"VariableNameNotFound on n0: Variable [o9] not found on node [n0].", bound("x")},
    ),
    "workflow input not found": (
        workflow(run("n1", "double", x=".y")),
        {"VariableNameNotFound on start-node: Variable [y] not found on node [start-node].", bound("x")},
    ),
    "output of the end": (
        workflow(run("n1", "double", x="end-node.o0")),
        {"VariableNameNotFound on end-node: Variable [o0] not found on node [end-node].", bound("x")},
    ),
    "input not found": (
        workflow(run("n1", "nothing", x=1)),
        {"VariableNameNotFound on n1: Variable [x] not found on node [n1]."},
    ),
    "input not bound": (workflow(run("n1", "double")), {bound("x")}),
    "workflow output not bound": (
        workflow(run("n0", "nothing"), outputs={"o": (INTEGER, "n0.o0")}),
        {
            "VariableNameNotFound on n0: Variable [o0] not found on node [n0].",
            "ParameterNotBound on end-node: Parameter not bound [o].",
        },
    ),
    "bound twice": (
        workflow(Node(id="n0", task_node=run("", "double").task_node, inputs=run("", "double", x=1).inputs[:] * 2)),
        {"ParameterBoundMoreThanOnce on n0: Input [x] is bound more than once."},
    ),
    "no data": (
        workflow(Node(id="n1", task_node=run("", "double").task_node, inputs=[Binding(var="x")])),
        {"ValueRequired on n1: Value required [Binding].", bound("x")},
    ),
    "constant of another type": (
        workflow(run("n0", "double", x=string("a"))),
        {("MismatchingTypes on n0: Variable [x] (type [simple:STRING]) doesn't match expected type [simple:INTEGER].")},
    ),
    "promise of another type": (
        workflow(run("n0", "spell", s=".x"), inputs=X),
        {
            (
                "MismatchingTypes on n0: The output variable 'x' has type [simple:INTEGER], but it's "
                "assigned to the input variable 's' which has type type [simple:STRING]."
            )
        },
    ),
    "list for a number": (
        workflow(run("n0", "double", x=one_item(string("a")))),
        {
            (
                "MismatchingBindings on n0: Input [x] on node [n0] expects bindings of type [simple:"
                'INTEGER].  Received [collection:{bindings:{scalar:{primitive:{string_value:"a"}}}}]'
            )
        },
    ),
    "nothing for a number": (
        workflow(run("n0", "double", x=BindingData())),
        {("MismatchingBindings on n0: Input [x] on node [n0] expects bindings of type [simple:INTEGER].  Received []")},
    ),
    "unrecognized constant": (
        workflow(run("n0", "double", x=BindingData(scalar=Scalar(blob={})))),
        {"UnrecognizedValue on n0: Unrecognized value [blob]."},
    ),
    "value outside an enum": (
        workflow(run("n0", "enum", e=string("c"))),
        {
            (
                "IllegalEnumValue on n0: Input [e] on node [n0] is an Enum and expects value to be one of "
                "[[a b]].  Received [c]"
            )
        },
    ),
    "list that fits no variant": (
        workflow(run("n0", "union", u=one_item(string("a")))),
        {
            (
                "IncompatibleBindingUnionValue on n0: Input [u] on node [n0] expects bindings of union "
                f"type [{UNION}].  Received [collection:{{bindings:{{scalar:{{primitive:{{"
                'string_value:"a"}}}}] which does not match any of the variants.'
            )
        },
    ),
    "list that fits two variants": (
        workflow(run("n0", "union", u=BindingData(collection={}))),
        {
            (
                "AmbiguousBindingUnionValue on n0: Input [u] on node [n0] expects bindings of union type "
                f"[{UNION}].  Received [collection:{{}}] which is ambiguous as both variants "
                "[collection_type:{simple:INTEGER}] and [collection_type:{collection_type:{simple:INTEGER}}] match."
            )
        },
    ),
    "syntax": (
        workflow(run("n0", "double", x=".x-y"), inputs=X),
        {"SyntaxError on n0: Failed to parse element [x-y]."},
    ),
    "index of what is no list": (
        workflow(run("n0", "double", x=".[0].x"), inputs=X),
        {
            (
                "MismatchingTypes on n0: The output variable '[0].x' has type [simple:INTEGER], but it's "
                "assigned to the input variable 'x' which has type type [simple:INTEGER]."
            )
        },
    ),
    "field not found": (
        workflow(run("n0", "double", x=attribute(".d", "b")), inputs={"d": dataclass(a=INTEGER)}),
        {
            (
                "FieldNotFound on n0: Variable [d] (type [simple: STRUCT structure{dataclass_type:{"
                "key:a value:{simple:INTEGER}}}]) doesn't have field [b]."
            )
        },
    ),
    "alias twice": (
        aliased(("o0", "a"), ("o0", "b")),
        {("DuplicateAlias on n0: Duplicate alias [b] found. An output alias can only be used once in the Workflow.")},
    ),
    "alias of nothing": (aliased(("o9", "a")), {"ParameterNotBound on n0: Parameter not bound [a]."}),
    "id twice": (
        workflow(run("n0", "nothing"), run("n0", "nothing")),
        {"DuplicateId on n0: Trying to insert two nodes with the same id."},
    ),
    "id that a branch makes up": (
        workflow(branch("start", run("node", "nothing"), x=".x"), inputs=X),
        {"DuplicateId on start-node: Trying to insert two nodes with the same id."},
    ),
    "cycle": (
        workflow(run("a", "nothing"), run("b", "nothing", ["a", "c"]), run("c", "nothing", ["b"])),
        {("CycleDetected on start-node: A cycle has been detected while traversing the Workflow [b>c>b].")},
    ),
    "unreachable": (
        workflow(run("b", "nothing", ["a"]), run("a", "nothing", ["b"]), run("c", "nothing")),
        {"UnreachableNodes on start-node: The Workflow contain unreachable nodes [a,b]."},
    ),
    "cycle of outputs that are passed on, with other errors": (
        workflow(approve("a", v="b.v"), approve("b", v="a.v"), run("n1", "double")),
        {
            ("CycleDetected on start-node: A cycle has been detected while traversing the Workflow [a>b>a]."),
            bound("x"),
        },
    ),
    "gate without condition": (
        workflow(gate("n0")),
        {"NoConditionFound on n0: Can't find any condition in gate node [n0]."},
    ),
    "branch without condition and default": (
        undecided(),
        {
            ("BranchNodeHasNoCondition on n0: One of the branches on the node doesn't have a condition."),
            ("BranchNodeHasNoDefault on n0: Branch Node must have either the else case set or a default error."),
        },
    ),
    "cases with different types, that of the first one first": (
        workflow(branch("n0", run("i", "make"), run("j", "float"), x=".x"), inputs=X),
        {
            (
                "MismatchingTypes on n0-j: Variable [o0] (type [simple:INTEGER]) doesn't match expected "
                "type [simple:FLOAT]."
            )
        },
    ),
    "cases that disagree in metadata": (
        workflow(branch("n0", run("i", "described"), run("j", "redescribed"), x=".x"), inputs=X),
        {
            (
                "MismatchingTypes on n0-j: Variable [o0] (type [simple:INTEGER metadata:{fields:{key:"
                '"description" value:{string_value:"one"}}}]) doesn\'t match expected type [simple:'
                'INTEGER metadata:{fields:{key:"description" value:{string_value:"other"}}}].'
            )
        },
    ),
    "comparison of two types, the right one first": (
        choosing(compared(Operand(var="x"), seven(point=True))),
        {
            (
                "MismatchingTypes on n0: Variable [RightValue] (type [simple:FLOAT]) doesn't match "
                "expected type [simple:INTEGER]."
            )
        },
    ),
    "operands without value": (
        choosing(compared(Operand(), Operand())),
        {
            "ValueRequired on n0: Value required [LeftValue.Val].",
            "ValueRequired on n0: Value required [RightValue.Val].",
        },
    ),
    "no operands": (
        choosing(BooleanExpression(comparison={})),
        {
            "ValueRequired on n0: Value required [LeftValue].",
            "ValueRequired on n0: Value required [RightValue].",
        },
    ),
    "condition on what is not given": (
        choosing(compared(Operand(var="y"), seven())),
        {"VariableNameNotFound on n0: Variable [y] not found on node [n0]."},
    ),
    "condition of nothing": (
        choosing(BooleanExpression()),
        {"ValueRequired on n0: Value required [Expr]."},
    ),
}


@pytest.mark.parametrize(("template", "expected"), TEXTS.values(), ids=TEXTS)
def test_error_text_is_that_of_flyteadmin(template: WorkflowTemplate, expected: set[str]) -> None:
    with pytest.raises(CompilationFailed) as failed:
        compiled(template, tasks=TASKS)
    assert {f"{error.code} on {error.node_id}: {error.description}" for error in failed.value.errors} == expected


def test_errors_of_all_workflows_are_reported_sorted_by_code_and_text() -> None:
    inner = workflow(run("n0", "double"), name="inner")
    template = workflow(
        run("z", "nothing", ["gone"]),
        run("a", "spell", s=1),
        sub("s", "inner"),
        branch("b", run("i", "double"), x=".flag"),
        inputs={"flag": BOOLEAN},
        outputs={"o": (NONE, ".flag")},
        failure=run("f", "double"),
    )
    with pytest.raises(CompilationFailed) as failed:
        compiled(template, [inner])
    lines = str(failed.value).splitlines()
    assert lines[0] == "Collected Errors: 7"
    found = [line.split(", Description")[0].split("Code: ")[1].replace(", Node Id: ", " ") for line in lines[1:]]
    assert (
        found
        == [
            "MismatchingTypes a",
            "MismatchingTypes b",
            "MismatchingTypes end-node",
            "NodeReferenceNotFound z",
            "ParameterNotBound b-i",
            "ParameterNotBound f",
            "ParameterNotBound n0",
            "UnreachableNodes start-node",
        ][: len(found)]
    )


def test_sub_workflow_without_an_interface_is_an_error_of_the_node() -> None:
    inner = WorkflowTemplate(id=identifier("inner"), nodes=[run("n0", "nothing")])
    with pytest.raises(CompilationFailed, match=r"Node Id: s, .*\[WorkflowNode\.Template\.Interface\]"):
        compiled(workflow(sub("s", "inner")), [inner])
