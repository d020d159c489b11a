"""The entities of the load: a task, and for each shape a workflow with its launch plan.

The version is a digest of the entities, so a second run finds everything registered and a changed generator registers
new versions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionMetadata, ExecutionSpec
from flyteidl.admin.launch_plan_pb2 import LaunchPlanCreateRequest, LaunchPlanSpec
from flyteidl.admin.task_pb2 import TaskCreateRequest, TaskSpec
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest, WorkflowSpec
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import Parameter, ParameterMap, TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Binding, BindingData, Literal, LiteralCollection, LiteralMap, Primitive, Scalar
from flyteidl.core.tasks_pb2 import Container, RuntimeMetadata, TaskMetadata, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, OutputReference, SimpleType
from flyteidl.core.workflow_pb2 import ArrayNode, Node, NodeMetadata, TaskNode, WorkflowMetadata, WorkflowTemplate
from google.protobuf.message import Message

from bench.answers import OK
from bench.http2 import Channel

SERVICE = "/flyteidl.service.AdminService/"
ALREADY_EXISTS = 6

WORK, MAPPED = TASKS = ("work", "work-mapped")
FANOUT_NODES = 100
SUBTASKS = 1000

_INTEGER = LiteralType(simple=SimpleType.INTEGER)
_INTEGERS = LiteralType(collection_type=_INTEGER)


class Shape(StrEnum):
    """The kind of workflow that an execution runs."""

    SINGLE = "single"  # one task
    FANOUT = "fanout"  # many tasks side by side
    DYNAMIC = "dynamic"  # a task that makes a workflow
    MAP = "map"  # one array node over many inputs


class RefusedError(Exception):
    """The server refused a registration that the load needs."""


@dataclass(frozen=True)
class ProjectDomain:
    """The project and domain where everything is registered and runs."""

    project: str
    domain: str

    def identifier(self, kind: ResourceType, name: str, version: str = "") -> Identifier:
        """Return the identifier of the bench's entity `name`; the version is the digest unless given."""
        return Identifier(
            resource_type=kind,
            project=self.project,
            domain=self.domain,
            name=f"bench.{name}",
            version=version or self.version,
        )

    @cached_property
    def version(self) -> str:
        """The version of everything registered here."""
        parts: list[Message] = [task(self, name, "digest") for name in TASKS]
        parts += [workflow(self, shape, "digest") for shape in Shape]
        digest = hashlib.sha256(b"".join(part.SerializeToString(deterministic=True) for part in parts))
        return f"bench-{digest.hexdigest()[:12]}"


async def register(channel: Channel, scope: ProjectDomain, shapes: Sequence[Shape]) -> None:
    """Register the entities that executions of `shapes` need, unless they exist; raise RefusedError."""
    requests: list[tuple[str, Message]] = [("CreateTask", task(scope, name)) for name in TASKS]
    for shape in shapes:
        requests += (("CreateWorkflow", workflow(scope, shape)), ("CreateLaunchPlan", launch_plan(scope, shape)))
    for method, request in requests:
        response = await channel.call(SERVICE + method, request.SerializeToString())
        if response.code not in {OK, ALREADY_EXISTS}:
            raise RefusedError(f"{method} returned code {response.code}: {response.message}")


def task(scope: ProjectDomain, name: str, version: str = "") -> TaskCreateRequest:
    """Return one of TASKS: from a number to a number; the mapped one from list to list, as flytekit registers it."""
    type_ = _INTEGERS if name == MAPPED else _INTEGER
    template = TaskTemplate(
        type="python-task",
        metadata=TaskMetadata(
            runtime=RuntimeMetadata(type=RuntimeMetadata.FLYTE_SDK, version="1.16.0", flavor="python")
        ),
        interface=TypedInterface(inputs=_variables(x=type_), outputs=_variables(o0=type_)),
        container=Container(image="bench:none", args=["pyflyte-execute"]),
    )
    return TaskCreateRequest(id=scope.identifier(ResourceType.TASK, name, version), spec=TaskSpec(template=template))


def workflow(scope: ProjectDomain, shape: Shape, version: str = "") -> WorkflowCreateRequest:
    """Return the workflow of `shape`."""
    inputs = _variables(x=_INTEGERS if shape is Shape.MAP else _INTEGER)
    template = WorkflowTemplate(
        id=scope.identifier(ResourceType.WORKFLOW, shape.value, version),
        metadata=WorkflowMetadata(),
        interface=TypedInterface(inputs=inputs, outputs=_variables()),
        nodes=_nodes(scope, shape, version),
    )
    return WorkflowCreateRequest(id=template.id, spec=WorkflowSpec(template=template))


def launch_plan(scope: ProjectDomain, shape: Shape) -> LaunchPlanCreateRequest:
    """Return the launch plan of `shape`, with defaults for all inputs."""
    number = Literal(scalar=Scalar(primitive=Primitive(integer=1)))
    numbers = Literal(collection=LiteralCollection(literals=[number] * SUBTASKS))
    mapped = shape is Shape.MAP
    parameter = Parameter(var=Variable(type=_INTEGERS if mapped else _INTEGER), default=numbers if mapped else number)
    spec = LaunchPlanSpec(
        workflow_id=scope.identifier(ResourceType.WORKFLOW, shape.value),
        default_inputs=ParameterMap(parameters={"x": parameter}),
        fixed_inputs=LiteralMap(),
    )
    return LaunchPlanCreateRequest(id=scope.identifier(ResourceType.LAUNCH_PLAN, shape.value), spec=spec)


def execution(scope: ProjectDomain, shape: Shape, name: str) -> ExecutionCreateRequest:
    """Return a request for an execution of the launch plan of `shape`."""
    spec = ExecutionSpec(
        launch_plan=scope.identifier(ResourceType.LAUNCH_PLAN, shape.value),
        metadata=ExecutionMetadata(mode=ExecutionMetadata.MANUAL),
    )
    return ExecutionCreateRequest(project=scope.project, domain=scope.domain, name=name, spec=spec)


def task_node(scope: ProjectDomain, node_id: str, name: str = WORK, version: str = "") -> Node:
    """Return a node that runs the task `name` on the workflow's input."""
    promise = BindingData(promise=OutputReference(node_id="", var="x"))
    return Node(
        id=node_id,
        metadata=NodeMetadata(name=name),
        inputs=[Binding(var="x", binding=promise)],
        task_node=TaskNode(reference_id=scope.identifier(ResourceType.TASK, name, version)),
    )


def _nodes(scope: ProjectDomain, shape: Shape, version: str) -> list[Node]:
    if shape is Shape.FANOUT:
        return [task_node(scope, f"n{number}", version=version) for number in range(FANOUT_NODES)]
    if shape is Shape.MAP:
        node = task_node(scope, "n0", MAPPED, version)
        return [Node(id="n0", metadata=node.metadata, inputs=node.inputs, array_node=ArrayNode(node=node))]
    return [task_node(scope, "n0", version=version)]


def _variables(**types: LiteralType) -> VariableMap:
    return VariableMap(variables={name: Variable(type=type_, description=name) for name, type_ in types.items()})
