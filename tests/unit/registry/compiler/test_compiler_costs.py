"""Requests that are small and would take long to compile."""

import time
from collections.abc import Callable, Mapping, Sequence

import pytest
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.interface_pb2 import TypedInterface, Variable
from flyteidl.core.literals_pb2 import Binding, BindingData
from flyteidl.core.types_pb2 import LiteralType, SchemaType, SimpleType, UnionType
from flyteidl.core.workflow_pb2 import Node, WorkflowTemplate

from services.contracts.casting import MAX_STEPS, Comparison, TypesTooLarge
from services.registry.compiler import CompilationFailed, compile_workflow, requirements
from services.registry.compiler.errors import MAX_FOUND_CHARACTERS
from services.registry.compiler.requirements import MAX_NODES

MOST_SECONDS = 3.0

INTEGER, STRING = LiteralType(simple=SimpleType.INTEGER), LiteralType(simple=SimpleType.STRING)
PROMISE = BindingData(promise={"var": "x"})


@pytest.mark.parametrize("in_sub_workflows", [False, True])
def test_too_many_nodes_are_refused_before_they_are_read(in_sub_workflows: bool) -> None:
    template = WorkflowTemplate(id=Identifier(name="w"), nodes=[Node()] * (0 if in_sub_workflows else 500_000))
    started = time.process_time()
    with pytest.raises(CompilationFailed, match=f"more than {MAX_NODES} nodes"):
        requirements(template, [WorkflowTemplate()] * (500_000 if in_sub_workflows else 0))
    assert time.process_time() - started < MOST_SECONDS


def test_columns_of_every_variant_count_as_steps() -> None:
    columns = [SchemaType.SchemaColumn(name=str(at)) for at in range(50_000)]
    variant = LiteralType(schema=SchemaType(columns=[SchemaType.SchemaColumn(name="other")]))
    declared = LiteralType(union_type=UnionType(variants=[variant] * 20_000))
    started = time.process_time()
    with pytest.raises(TypesTooLarge):
        Comparison(MAX_STEPS).castable(LiteralType(schema=SchemaType(columns=columns)), declared)
    assert time.process_time() - started < MOST_SECONDS


def test_type_that_many_nodes_use_is_serialized_once() -> None:
    kind = _dataclass(60_000)
    nodes = [_node(f"n{at}", "t", x=PROMISE) for at in range(100)]
    closure, seconds = _compiled(_template(nodes, x=kind), _task("t", x=kind))
    assert closure is not None
    assert seconds < MOST_SECONDS


def _many_long_errors() -> tuple[WorkflowTemplate, CompiledTask]:
    inputs = {f"x{at}": INTEGER for at in range(400)}
    node = _node("n", "t", **dict.fromkeys(inputs, PROMISE))
    return _template([node], x=_dataclass(60_000)), _task("t", **inputs)


def _long_id_with_many_edges() -> tuple[WorkflowTemplate, CompiledTask]:
    node = _node("n" * 1_000_000, "t")
    node.upstream_node_ids.extend([""] * 200_000)
    return _template([node]), _task("t")


def _map_for_many_variants() -> tuple[WorkflowTemplate, CompiledTask]:
    value = BindingData()
    for at in range(20_000):
        value.map.bindings[str(at)].scalar.primitive.integer = at
    maps = LiteralType(union_type={"variants": [LiteralType(map_value_type=STRING)] * 1000})
    return _template([_node("n", "t", x=value)]), _task("t", x=maps)


def _enum_for_many_unions() -> tuple[WorkflowTemplate, CompiledTask]:
    enum = LiteralType(enum_type={"values": [str(at) for at in range(20_000)]})
    value = BindingData(scalar={"union": {"value": {"scalar": {"primitive": {"integer": 1}}}, "type": INTEGER}})
    items = LiteralType(collection_type=LiteralType(union_type={"variants": [enum, INTEGER]}))
    node = _node("n", "t", x=BindingData(collection={"bindings": [value] * 10_000}))
    return _template([node]), _task("t", x=items)


@pytest.mark.parametrize(
    "request_",
    [
        _many_long_errors,
        _long_id_with_many_edges,
        _map_for_many_variants,
        _enum_for_many_unions,
    ],
)
def test_work_on_large_parts_is_bounded(
    request_: Callable[[], tuple[WorkflowTemplate, CompiledTask]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.registry.compiler.workflows.MAX_STEPS", 50_000)  # a tenth, to be fast
    closure, seconds = _compiled(*request_())
    assert closure is None
    assert seconds < MOST_SECONDS / 2


def test_texts_of_errors_are_bounded() -> None:
    name = "v" * 100_000
    wrong = [BindingData(collection={"bindings": [PROMISE] * at}) for at in range(400)]
    node = _node("n", "t", **{name: BindingData(collection={"bindings": wrong})})
    task = _task("t", **{name: LiteralType(collection_type=INTEGER)})
    with pytest.raises(CompilationFailed) as failed:
        compile_workflow(_template([node]), [], [task], [])
    assert len(str(failed.value)) < MAX_FOUND_CHARACTERS + 2 * len(name)


def test_nodes_of_many_cases_are_refused_before_they_are_read() -> None:
    branch = Node(id="b")
    branch.branch_node.if_else.case.then_node.SetInParent()
    branch.branch_node.if_else.other.extend([branch.branch_node.if_else.case] * 100_000)
    started = time.process_time()
    with pytest.raises(CompilationFailed, match=f"more than {MAX_NODES} nodes"):
        requirements(_template([branch]), [])
    assert time.process_time() - started < 1


def _dataclass(fields: int) -> LiteralType:
    kind = LiteralType(simple=SimpleType.STRUCT)
    for at in range(fields):
        kind.metadata.fields[str(at)].string_value = "a"
    return kind


def _interface(types: Mapping[str, LiteralType]) -> TypedInterface:
    return TypedInterface(inputs={"variables": {name: Variable(type=kind) for name, kind in types.items()}})


def _task(name: str, **inputs: LiteralType) -> CompiledTask:
    return CompiledTask(template={"id": Identifier(name=name), "interface": _interface(inputs)})


def _node(node_id: str, task: str, **bindings: BindingData) -> Node:
    bound = [Binding(var=name, binding=data) for name, data in bindings.items()]
    return Node(id=node_id, task_node={"reference_id": Identifier(name=task)}, inputs=bound)


def _template(nodes: Sequence[Node], **inputs: LiteralType) -> WorkflowTemplate:
    return WorkflowTemplate(id=Identifier(name="w"), interface=_interface(inputs), nodes=nodes)


def _compiled(template: WorkflowTemplate, task: CompiledTask) -> tuple[CompiledWorkflowClosure | None, float]:
    """Return the closure, None after a refusal, and the CPU seconds that it took."""
    started = time.process_time()
    try:
        closure = compile_workflow(template, [], [task], [])
    except CompilationFailed:
        closure = None
    return closure, time.process_time() - started
