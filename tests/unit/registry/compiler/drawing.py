"""Short forms of tasks and workflows for the tests of the compiler."""

from collections.abc import Mapping, Sequence

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure, ConnectionSet
from flyteidl.core.condition_pb2 import BooleanExpression, ComparisonExpression, Operand
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Binding, BindingData, Primitive, Scalar
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import (
    EnumType,
    LiteralType,
    OutputReference,
    PromiseAttribute,
    SimpleType,
    TypeStructure,
    UnionType,
)
from flyteidl.core.workflow_pb2 import IfBlock, Node, TaskNode, WorkflowTemplate

from services.registry.compiler import CompilationFailed, compile_workflow, requirements

INTEGER = LiteralType(simple=SimpleType.INTEGER)
FLOAT = LiteralType(simple=SimpleType.FLOAT)
STRING = LiteralType(simple=SimpleType.STRING)
BOOLEAN = LiteralType(simple=SimpleType.BOOLEAN)
NONE = LiteralType(simple=SimpleType.NONE)
STRUCT = LiteralType(simple=SimpleType.STRUCT)

Types = Mapping[str, LiteralType]
Given = BindingData | str | int


def union(*variants: LiteralType) -> LiteralType:
    return LiteralType(union_type=UnionType(variants=variants))


def list_of(inner: LiteralType) -> LiteralType:
    return LiteralType(collection_type=inner)


def map_of(inner: LiteralType) -> LiteralType:
    return LiteralType(map_value_type=inner)


def enum(*values: str) -> LiteralType:
    return LiteralType(enum_type=EnumType(values=values))


def tagged(literal_type: LiteralType, tag: str) -> LiteralType:
    result = LiteralType()
    result.CopyFrom(literal_type)
    result.structure.tag = tag
    return result


def identifier(name: str, kind: ResourceType = ResourceType.WORKFLOW) -> Identifier:
    return Identifier(resource_type=kind, project="p", domain="d", name=name, version="v")


def interface(inputs: Types | None = None, outputs: Types | None = None) -> TypedInterface:
    return TypedInterface(
        inputs=VariableMap(variables={name: Variable(type=of) for name, of in (inputs or {}).items()}),
        outputs=VariableMap(variables={name: Variable(type=of) for name, of in (outputs or {}).items()}),
    )


def task(name: str, inputs: Types | None = None, outputs: Types | None = None) -> CompiledTask:
    return CompiledTask(
        template=TaskTemplate(id=identifier(name, ResourceType.TASK), interface=interface(inputs, outputs))
    )


def promise(text: str) -> BindingData:
    """Return a promise: `n0.x` is output x of node n0, `.x` the workflow's input x."""
    node_id, _, var = text.partition(".")
    return BindingData(promise=OutputReference(node_id=node_id, var=var))


def integer(value: int) -> BindingData:
    return BindingData(scalar=Scalar(primitive=Primitive(integer=value)))


def string(value: str) -> BindingData:
    return BindingData(scalar=Scalar(primitive=Primitive(string_value=value)))


def bindings(given: Mapping[str, Given]) -> list[Binding]:
    """Return bindings: texts are promises, numbers are constants."""
    result = []
    for name, value in given.items():
        data = promise(value) if isinstance(value, str) else integer(value) if isinstance(value, int) else value
        result.append(Binding(var=name, binding=data))
    return result


def run(node_id: str, name: str, after: Sequence[str] = (), **given: Given) -> Node:
    """Return a node that runs a task."""
    reference = TaskNode(reference_id=identifier(name, ResourceType.TASK))
    return Node(id=node_id, task_node=reference, inputs=bindings(given), upstream_node_ids=after)


def sub(node_id: str, name: str, **given: Given) -> Node:
    """Return a node that runs a sub-workflow."""
    node = Node(id=node_id, inputs=bindings(given))
    node.workflow_node.sub_workflow_ref.CopyFrom(identifier(name))
    return node


def launch(node_id: str, name: str, **given: Given) -> Node:
    """Return a node that runs a launch plan."""
    node = Node(id=node_id, inputs=bindings(given))
    node.workflow_node.launchplan_ref.CopyFrom(identifier(name, ResourceType.LAUNCH_PLAN))
    return node


def approve(node_id: str, **given: Given) -> Node:
    node = Node(id=node_id, inputs=bindings(given))
    node.gate_node.approve.signal_id = node_id
    return node


def equals(variable: str, value: int) -> BooleanExpression:
    return BooleanExpression(
        comparison=ComparisonExpression(
            left_value=Operand(var=variable), right_value=Operand(primitive=Primitive(integer=value))
        )
    )


def array(node_id: str, inner: Node, **given: str) -> Node:
    """Return an array node that repeats `inner`."""
    node = Node(id=node_id, inputs=bindings(given))
    node.array_node.node.CopyFrom(inner)
    return node


def dataclass(**fields: LiteralType) -> LiteralType:
    """Return the type of a dataclass with these fields."""
    structure = TypeStructure(dataclass_type=fields)
    return LiteralType(simple=SimpleType.STRUCT, structure=structure)


def attribute(text: str, *path: str | int) -> BindingData:
    """Return a promise of what `path` of fields, keys and indices selects."""
    data = promise(text)
    for step in path:
        named = isinstance(step, str)
        data.promise.attr_path.append(
            PromiseAttribute(string_value=str(step)) if named else PromiseAttribute(int_value=int(step))
        )
    return data


def branch(node_id: str, *cases: Node, otherwise: Node | None = None, **given: Given) -> Node:
    """Return a branch whose cases are chosen by comparing its input x with their number."""
    node = Node(id=node_id, inputs=bindings(given))
    if_else = node.branch_node.if_else
    first, *others = [IfBlock(condition=equals("x", i), then_node=case) for i, case in enumerate(cases)]
    if_else.case.CopyFrom(first)
    if_else.other.extend(others)
    if otherwise is None:
        if_else.error.message = "no case"
    else:
        if_else.else_node.CopyFrom(otherwise)
    return node


def workflow(
    *nodes: Node,
    name: str = "wf",
    inputs: Types | None = None,
    outputs: Mapping[str, tuple[LiteralType, Given]] | None = None,
    failure: Node | None = None,
) -> WorkflowTemplate:
    declared = outputs or {}
    template = WorkflowTemplate(
        id=identifier(name),
        interface=interface(inputs, {key: of for key, (of, _) in declared.items()}),
        nodes=nodes,
        outputs=bindings({key: given for key, (_, given) in declared.items()}),
    )
    if failure is not None:
        template.failure_node.CopyFrom(failure)
    return template


# Tasks of most tests.
TASKS = [
    task("nothing"),
    task("make", outputs={"o0": INTEGER}),
    task("double", {"x": INTEGER}, {"o0": INTEGER}),
    task("spell", {"s": STRING}, {"o0": STRING}),
    task("sum", {"xs": list_of(INTEGER)}, {"o0": INTEGER}),
    task("many", outputs={"o0": list_of(INTEGER)}),
]


def compiled(
    template: WorkflowTemplate,
    sub_workflows: Sequence[WorkflowTemplate] = (),
    tasks: Sequence[CompiledTask] = (),
    launch_plans: Sequence[LaunchPlan] = (),
) -> CompiledWorkflowClosure:
    """Compile as CreateWorkflow does, with those of the tasks that are required."""
    requirements(template, sub_workflows)
    return compile_workflow(template, sub_workflows, [*tasks, *TASKS], launch_plans)


def codes(
    template: WorkflowTemplate,
    sub_workflows: Sequence[WorkflowTemplate] = (),
    tasks: Sequence[CompiledTask] = (),
    launch_plans: Sequence[LaunchPlan] = (),
) -> set[tuple[str, str]]:
    """Return the codes and node ids of all errors."""
    try:
        compiled(template, sub_workflows, tasks, launch_plans)
    except CompilationFailed as failed:
        return {(str(error.code), error.node_id) for error in failed.errors}
    return set()


def arrows(connections: ConnectionSet) -> dict[str, list[str]]:
    return {node_id: list(following.ids) for node_id, following in connections.downstream.items()}


def sources(connections: ConnectionSet) -> dict[str, list[str]]:
    return {node_id: list(preceding.ids) for node_id, preceding in connections.upstream.items()}
