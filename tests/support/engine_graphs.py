"""Workflows for tests of the local engine's state machine, compiled by the registry's compiler."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.condition_pb2 import BooleanExpression, ComparisonExpression, Operand
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.identifier_pb2 import ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.interface_pb2 import Parameter, ParameterMap
from flyteidl.core.literals_pb2 import Binding, BindingData, LiteralMap, Primitive, Scalar
from flyteidl.core.tasks_pb2 import Container, TaskMetadata, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.core.workflow_pb2 import IfBlock, Node, WorkflowMetadata, WorkflowNode, WorkflowTemplate

from deploy.sandbox.engine.graph.interface import Run
from services.registry.compiler import compile_workflow
from tests.support.entities import INTEGER, Types, identifier, interface, literals, promise, task_node

EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="e")
LIST = LiteralType(collection_type=INTEGER)
ONE: Types = {"o0": INTEGER}


def task(name: str, inputs: Types | None = None, outputs: Types = ONE, **metadata: Any) -> TaskTemplate:
    """Return a container task; without `inputs` it has the integer `a`."""
    return TaskTemplate(
        id=identifier(ResourceType.TASK, name),
        type="python-task",
        metadata=TaskMetadata(**metadata),
        interface=interface({"a": INTEGER} if inputs is None else inputs, outputs),
        container=Container(image="python:3.11", args=["pyflyte-execute"]),
    )


def node(node_id: str, task_name: str, source: str = "", *more: Binding, output: str = "o0", **metadata: Any) -> Node:
    """Return a task node whose input `a` is an output of `source`, or the workflow's input `n`."""
    result = task_node(node_id, task_name, promise("a", source, output if source else "n"), *more)
    result.metadata.MergeFrom(type(result.metadata)(**metadata))
    return result


def constant(variable: str, value: int) -> Binding:
    """Bind an input to a number."""
    return Binding(var=variable, binding=BindingData(scalar=Scalar(primitive=Primitive(integer=value))))


def workflow(
    name: str,
    nodes: Iterable[Node],
    outputs: Sequence[Binding] = (),
    *,
    inputs: Types | None = None,
    output_types: Types | None = None,
    failure_node: Node | None = None,
    **metadata: Any,
) -> WorkflowTemplate:
    """Return a workflow; without `inputs` it has the integer `n`, and outputs are integers."""
    types = {binding.var: INTEGER for binding in outputs} if output_types is None else output_types
    return WorkflowTemplate(
        id=identifier(ResourceType.WORKFLOW, name),
        metadata=WorkflowMetadata(**metadata),
        interface=interface({"n": INTEGER} if inputs is None else inputs, types),
        nodes=nodes,
        outputs=outputs,
        failure_node=failure_node,
    )


def sub_workflow_node(node_id: str, name: str, source: str = "", output: str = "o0") -> Node:
    """Return a node of a sub-workflow with the input `n`."""
    reference = identifier(ResourceType.WORKFLOW, name)
    bound = promise("n", source, output if source else "n")
    return Node(id=node_id, inputs=[bound], workflow_node=WorkflowNode(sub_workflow_ref=reference))


def launch_plan_node(node_id: str, name: str, source: str = "", output: str = "o0") -> Node:
    """Return a node of a launch plan with the input `n`."""
    reference = identifier(ResourceType.LAUNCH_PLAN, name)
    bound = promise("n", source, output if source else "n")
    return Node(id=node_id, inputs=[bound], workflow_node=WorkflowNode(launchplan_ref=reference))


def launch_plan(name: str, outputs: Types = ONE) -> LaunchPlan:
    """Return a launch plan with the required input `n`."""
    plan = LaunchPlan(id=identifier(ResourceType.LAUNCH_PLAN, name))
    parameter = Parameter(var=interface({"n": INTEGER}, {}).inputs.variables["n"], required=True)
    plan.closure.expected_inputs.CopyFrom(ParameterMap(parameters={"n": parameter}))
    plan.closure.expected_outputs.CopyFrom(interface({}, outputs).outputs)
    return plan


def greater(variable: str, than: int) -> BooleanExpression:
    """Return the condition that an integer input is greater than a number."""
    comparison = ComparisonExpression(
        operator=ComparisonExpression.GT,
        left_value=Operand(var=variable),
        right_value=Operand(primitive=Primitive(integer=than)),
    )
    return BooleanExpression(comparison=comparison)


def branch_node(
    node_id: str, cases: Sequence[tuple[int, Node]], default: Node | str, source: str = "", output: str = "o0"
) -> Node:
    """Return a branch over its input `a`: the first case whose number it exceeds, else a node or an error."""
    blocks = [IfBlock(condition=greater("a", than), then_node=then) for than, then in cases]
    result = Node(id=node_id, inputs=[promise("a", source, output if source else "n")])
    result.branch_node.if_else.case.CopyFrom(blocks[0])
    result.branch_node.if_else.other.extend(blocks[1:])
    if isinstance(default, Node):
        result.branch_node.if_else.else_node.CopyFrom(default)
    else:
        result.branch_node.if_else.error.message = default
        result.branch_node.if_else.error.failed_node_id = node_id
    return result


def map_node(node_id: str, task_name: str, source: str = "", output: str = "o0", **options: Any) -> Node:
    """Return an array node of a task with the list `a`."""
    bound = promise("a", source, output if source else "n")
    result = Node(id=node_id, inputs=[bound])
    result.array_node.node.CopyFrom(task_node(f"{node_id}-task", task_name, bound))
    for name, value in options.items():
        setattr(result.array_node, name, value)
    return result


def futures(
    nodes: Sequence[Node], outputs: Sequence[Binding], tasks: Sequence[TaskTemplate], **more: Any
) -> DynamicJobSpec:
    """Return what a dynamic task returns."""
    return DynamicJobSpec(nodes=nodes, outputs=outputs, tasks=tasks, min_successes=len(nodes), **more)


def run_of(
    template: WorkflowTemplate,
    tasks: Sequence[TaskTemplate],
    inputs: Mapping[str, int] | LiteralMap | None = None,
    *,
    sub_workflows: Sequence[WorkflowTemplate] = (),
    launch_plans: Sequence[LaunchPlan] = (),
    **fields: Any,
) -> Run:
    """Return the run of a workflow, whose input `n` is 1 unless `inputs` are given."""
    compiled_tasks = [CompiledTask(template=each) for each in tasks]
    values = inputs if isinstance(inputs, LiteralMap) else literals(**({"n": 1} if inputs is None else inputs))
    return Run(
        execution=EXECUTION,
        closure=compile_workflow(template, sub_workflows, compiled_tasks, launch_plans),
        inputs=values,
        data_prefix="mem://metadata/propeller/p-d-e",
        raw_output_prefix="mem://raw/p-d-e",
        **fields,
    )
