"""Requests as flytekit sends them, for tests that need an entity but no client."""

from collections.abc import Mapping

from flyteidl.admin.launch_plan_pb2 import LaunchPlanCreateRequest, LaunchPlanSpec
from flyteidl.admin.task_pb2 import TaskCreateRequest, TaskSpec
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest, WorkflowSpec
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import Parameter, ParameterMap, TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Binding, BindingData, Literal, LiteralMap, Primitive, RetryStrategy, Scalar
from flyteidl.core.tasks_pb2 import Container, RuntimeMetadata, TaskMetadata, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, OutputReference, SimpleType
from flyteidl.core.workflow_pb2 import (
    Node,
    NodeMetadata,
    TaskNode,
    WorkflowMetadata,
    WorkflowMetadataDefaults,
    WorkflowTemplate,
)

PROJECT = "flytesnacks"
DOMAIN = "development"

INTEGER = LiteralType(simple=SimpleType.INTEGER)
STRING = LiteralType(simple=SimpleType.STRING)

Types = Mapping[str, LiteralType]


def identifier(
    kind: ResourceType, name: str, version: str = "v1", project: str = PROJECT, domain: str = DOMAIN
) -> Identifier:
    """Return the identifier of an entity."""
    return Identifier(resource_type=kind, project=project, domain=domain, name=name, version=version)


def interface(inputs: Types, outputs: Types) -> TypedInterface:
    """Return an interface with these variables."""
    return TypedInterface(inputs=_variables(inputs), outputs=_variables(outputs))


def integer(value: int) -> Literal:
    """Return an integer literal."""
    return Literal(scalar=Scalar(primitive=Primitive(integer=value)))


def string(value: str) -> Literal:
    """Return a string literal."""
    return Literal(scalar=Scalar(primitive=Primitive(string_value=value)))


def literals(**values: int | str) -> LiteralMap:
    """Return a map of integer and string literals."""
    return LiteralMap(
        literals={name: integer(value) if isinstance(value, int) else string(value) for name, value in values.items()}
    )


def task(
    name: str, inputs: Types, outputs: Types, version: str = "v1", image: str = "python:3.11"
) -> TaskCreateRequest:
    """Return the registration of a container task."""
    template = TaskTemplate(
        type="python-task",
        metadata=TaskMetadata(
            runtime=RuntimeMetadata(type=RuntimeMetadata.FLYTE_SDK, version="1.16.31", flavor="python"),
            retries=RetryStrategy(retries=0),
        ),
        interface=interface(inputs, outputs),
        container=Container(image=image, args=["pyflyte-execute"]),
    )
    return TaskCreateRequest(id=identifier(ResourceType.TASK, name, version), spec=TaskSpec(template=template))


def promise(var: str, node: str, output: str) -> Binding:
    """Bind `var` to an output of a node, or to a workflow input when `node` is empty."""
    return Binding(var=var, binding=BindingData(promise=OutputReference(node_id=node, var=output)))


def task_node(node_id: str, task_name: str, *inputs: Binding, version: str = "v1") -> Node:
    """Return a node that runs a registered task."""
    reference = identifier(ResourceType.TASK, task_name, version)
    return Node(
        id=node_id, metadata=NodeMetadata(name=task_name), inputs=inputs, task_node=TaskNode(reference_id=reference)
    )


def workflow(
    name: str,
    inputs: Types,
    outputs: Types,
    nodes: list[Node],
    bindings: list[Binding],
    *,
    version: str = "v1",
) -> WorkflowCreateRequest:
    """Return the registration of a workflow of `nodes`, its outputs bound by `bindings`."""
    template = WorkflowTemplate(
        id=identifier(ResourceType.WORKFLOW, name, version),
        metadata=WorkflowMetadata(),
        metadata_defaults=WorkflowMetadataDefaults(),
        interface=interface(inputs, outputs),
        nodes=nodes,
        outputs=bindings,
    )
    return WorkflowCreateRequest(id=template.id, spec=WorkflowSpec(template=template))


def launch_plan(
    name: str,
    workflow_name: str,
    defaults: Mapping[str, tuple[LiteralType, Literal]] | None = None,
    fixed: LiteralMap | None = None,
    version: str = "v1",
) -> LaunchPlanCreateRequest:
    """Return the registration of a launch plan for a registered workflow of the same version."""
    parameters = {
        key: Parameter(var=Variable(type=type_), default=value) for key, (type_, value) in (defaults or {}).items()
    }
    spec = LaunchPlanSpec(
        workflow_id=identifier(ResourceType.WORKFLOW, workflow_name, version),
        default_inputs=ParameterMap(parameters=parameters),
        fixed_inputs=fixed,
    )
    return LaunchPlanCreateRequest(id=identifier(ResourceType.LAUNCH_PLAN, name, version), spec=spec)


def _variables(types: Types) -> VariableMap:
    return VariableMap(variables={name: Variable(type=type_, description=name) for name, type_ in types.items()})
