"""How deep messages may be nested: what clients can parse compiles, what is nested deeper is an error.

Requests are nested at most 100 messages deep, as parsers allow no more. The compiler itself has no limit, but responses
nest a template deeper than requests, and clients must be able to parse them, too.
"""

from collections.abc import Callable

import pytest
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest
from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.condition_pb2 import BooleanExpression
from flyteidl.core.literals_pb2 import BindingData
from flyteidl.core.types_pb2 import LiteralType, SimpleType, StructuredDatasetType
from flyteidl.core.workflow_pb2 import Node, WorkflowTemplate
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from services.registry.compiler import CompilationFailed, compile_task, compile_workflow, requirements
from tests.unit.registry.compiler.drawing import (
    INTEGER,
    STRING,
    TASKS,
    branch,
    equals,
    integer,
    list_of,
    map_of,
    run,
    task,
    union,
    workflow,
)

Made = Callable[[int], "Case"]
Wrap = Callable[[LiteralType], LiteralType]
Case = tuple[WorkflowTemplate, list[CompiledTask]]

# Deeper than parsers allow, in each of the forms below.
BEYOND = 110
# Deeper than people nest. The smallest is for properties of properties in a JSON Schema, each of six messages.
LEAST = 14
# Stack frames above the rules when a handler calls them.
HANDLER_FRAMES = 100


def nested_types(*wraps: Wrap) -> Made:
    """Return a workflow that passes an input of a type of this depth to a task, with each kind of nesting in turn."""

    def made(depth: int) -> Case:
        deep = INTEGER
        for level in range(depth):
            deep = wraps[level % len(wraps)](deep)
        taker = task("taker", {"x": deep})
        return workflow(run("n0", "taker", x=".x"), inputs={"x": deep}), [taker]

    return made


def optional(inner: LiteralType) -> LiteralType:
    return union(STRING, inner)


def dataset(inner: LiteralType) -> LiteralType:
    column = StructuredDatasetType.DatasetColumn(name="c", literal_type=inner)
    return LiteralType(structured_dataset_type=StructuredDatasetType(columns=[column]))


def dataclass(inner: LiteralType) -> LiteralType:
    made = LiteralType(simple=SimpleType.STRUCT)
    made.structure.dataclass_type["a"].CopyFrom(inner)
    return made


def schemas(depth: int) -> Case:
    """Return a workflow with two JSON Schemas of this depth, whose titles differ so that they must be compared."""

    def struct(title: str) -> LiteralType:
        made = LiteralType(simple=SimpleType.STRUCT)
        inner: Struct = made.metadata
        for _ in range(depth):
            inner["title"] = title
            inner["type"] = "object"
            inner = inner.fields["properties"].struct_value.fields["a"].struct_value
        inner["type"] = "integer"
        return made

    taker = task("taker", {"x": struct("taker")})
    return workflow(run("n0", "taker", x=".x"), inputs={"x": struct("giver")}), [taker]


def lists(depth: int) -> Case:
    """Return a workflow that binds a list of this depth to an input of its type."""
    data, of = BindingData(), INTEGER
    data.CopyFrom(integer(1))
    for _ in range(depth):
        outer = BindingData()
        outer.collection.bindings.append(data)
        data, of = outer, list_of(of)
    return workflow(run("n0", "taker", x=data)), [task("taker", {"x": of})]


def maps_for_unions(depth: int) -> Case:
    """Return a workflow that binds a map of this depth to unions of which only the last variant fits."""
    data, of = BindingData(), INTEGER
    data.CopyFrom(integer(1))
    for _ in range(depth):
        outer = BindingData()
        outer.map.bindings["k"].CopyFrom(data)
        data, of = outer, union(STRING, list_of(STRING), map_of(of))
    return workflow(run("n0", "taker", x=data)), [task("taker", {"x": of})]


def conditions(depth: int) -> Case:
    expression = equals("x", 1)
    for _ in range(depth):
        outer = BooleanExpression()
        outer.conjunction.left_expression.CopyFrom(expression)
        outer.conjunction.right_expression.CopyFrom(equals("x", 2))
        expression = outer
    node = branch("n0", run("i", "nothing"), x=".x")
    node.branch_node.if_else.case.condition.CopyFrom(expression)
    return workflow(node, inputs={"x": INTEGER}), []


def branches(depth: int) -> Case:
    node = run("i", "nothing")
    for _ in range(depth):
        node = branch("n", node, x=".x")
    return workflow(node, inputs={"x": INTEGER}), []


def arrays(depth: int) -> Case:
    node = run("i", "nothing")
    for _ in range(depth):
        outer = Node(id="n")
        outer.array_node.node.CopyFrom(node)
        node = outer
    return workflow(node), []


def wrong_types(depth: int) -> Case:
    """Return a workflow as `nested_types` does, whose types differ at the lowest level."""
    giver, taker = INTEGER, STRING
    for _ in range(depth):
        giver, taker = list_of(giver), list_of(taker)
    return workflow(run("n0", "taker", x=".x"), inputs={"x": giver}), [task("taker", {"x": taker})]


KINDS: dict[str, tuple[Made, str]] = {
    "lists of": (nested_types(list_of), "compiles"),
    "maps of": (nested_types(map_of), "compiles"),
    "unions of": (nested_types(optional), "compiles"),
    "columns of": (nested_types(dataset), "compiles"),
    "fields of": (nested_types(dataclass), "compiles"),
    "all of them": (nested_types(list_of, optional, dataset, map_of, dataclass), "compiles"),
    "schemas": (schemas, "compiles"),
    "bound lists": (lists, "compiles"),
    "bound maps for unions": (maps_for_unions, "compiles"),
    "conditions": (conditions, "compiles"),
    "branches": (branches, "compiles"),
    "arrays": (arrays, "compiles"),
    "wrong types": (wrong_types, "MismatchingTypes"),
}


def arrived(made: Made, depth: int) -> Case | None:
    """Return what the registry receives: the workflow by a request, the tasks by registration; None if nothing."""
    try:
        template, tasks = made(depth)
        request = WorkflowCreateRequest()
        request.spec.template.CopyFrom(template)
        spec = WorkflowCreateRequest.FromString(request.SerializeToString()).spec
        return spec.template, [compile_task(each.template) for each in tasks]
    except (DecodeError, CompilationFailed):
        return None


def outcome(template: WorkflowTemplate, tasks: list[CompiledTask], frames: int = HANDLER_FRAMES) -> str:
    """Return the codes of the errors, or that there are none; called as deep in the stack as from a handler."""
    if frames:
        return outcome(template, tasks, frames - 1)
    requirements(template, [])
    try:
        compile_workflow(template, [], [*tasks, *TASKS], [])
    except CompilationFailed as failed:
        return "too deep" if "[workflow: nested too deeply]" in str(failed) else str(min(failed.errors).code)
    return "compiles"


@pytest.mark.parametrize(("made", "usual"), KINDS.values(), ids=KINDS)
def test_request_of_any_depth_compiles_or_is_nested_too_deeply(made: Made, usual: str) -> None:
    outcomes: list[str] = []
    for depth in range(1, BEYOND):
        case = arrived(made, depth)
        if case is None:
            break
        outcomes.append(outcome(*case))
    else:
        pytest.fail("more arrives than a parser follows")
    shallow = outcomes.count(usual)
    # Up to some depth the first outcome, beyond it never again.
    assert outcomes == [usual] * shallow + ["too deep"] * (len(outcomes) - shallow)
    assert shallow >= LEAST
