"""What is registered before the load: a task, and for each shape a workflow with its launch plan.

The version is a digest of what is registered, so that a second run finds everything there and a changed generator
registers anew.
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
    """What kind of workflow an execution runs."""

    SINGLE = "single"  # one task
    FANOUT = "fanout"  # many tasks side by side
    DYNAMIC = "dynamic"  # a task that makes a workflow
    MAP = "map"  # one array node over many inputs


class RefusedError(Exception):
    """The server would not do what the load needs."""


@dataclass(frozen=True)
class Place:
    """Where everything is registered and runs."""

    project: str
    domain: str

    def identifier(self, kind: ResourceType, name: str, version: str = "") -> Identifier:
        """Identifier of the bench's entity `name`; the version is the digest unless given."""
        found = version or self.version
        return Identifier(
            resource_type=kind, project=self.project, domain=self.domain, name=f"bench.{name}", version=found
        )

    @cached_property
    def version(self) -> str:
        """Version of everything registered here."""
        parts: list[Message] = [task(self, name, "digest") for name in TASKS]
        parts += [workflow(self, shape, "digest") for shape in Shape]
        digest = hashlib.sha256(b"".join(part.SerializeToString(deterministic=True) for part in parts))
        return f"bench-{digest.hexdigest()[:12]}"


async def register(channel: Channel, place: Place, shapes: Sequence[Shape]) -> None:
    """Register what executions of `shapes` need; what is there already stays. Raises RefusedError."""
    requests: list[tuple[str, Message]] = [("CreateTask", task(place, name)) for name in TASKS]
    for shape in shapes:
        requests += (("CreateWorkflow", workflow(place, shape)), ("CreateLaunchPlan", launch_plan(place, shape)))
    for method, request in requests:
        answer = await channel.call(SERVICE + method, request.SerializeToString())
        if answer.code not in {OK, ALREADY_EXISTS}:
            raise RefusedError(f"{method} was answered with code {answer.code}: {answer.message}")


def task(place: Place, name: str, version: str = "") -> TaskCreateRequest:
    """One of TASKS: from a number to a number; what an array repeats is registered with lists, as flytekit does it."""
    type_ = _INTEGERS if name == MAPPED else _INTEGER
    template = TaskTemplate(
        type="python-task",
        metadata=TaskMetadata(
            runtime=RuntimeMetadata(type=RuntimeMetadata.FLYTE_SDK, version="1.16.0", flavor="python")
        ),
        interface=TypedInterface(inputs=_variables(x=type_), outputs=_variables(o0=type_)),
        container=Container(image="bench:none", args=["pyflyte-execute"]),
    )
    return TaskCreateRequest(id=place.identifier(ResourceType.TASK, name, version), spec=TaskSpec(template=template))


def workflow(place: Place, shape: Shape, version: str = "") -> WorkflowCreateRequest:
    """The workflow of `shape`."""
    inputs = _variables(x=_INTEGERS if shape is Shape.MAP else _INTEGER)
    template = WorkflowTemplate(
        id=place.identifier(ResourceType.WORKFLOW, shape.value, version),
        metadata=WorkflowMetadata(),
        interface=TypedInterface(inputs=inputs, outputs=_variables()),
        nodes=_nodes(place, shape, version),
    )
    return WorkflowCreateRequest(id=template.id, spec=WorkflowSpec(template=template))


def launch_plan(place: Place, shape: Shape) -> LaunchPlanCreateRequest:
    """The launch plan of `shape`, with inputs for which nobody has to be asked."""
    number = Literal(scalar=Scalar(primitive=Primitive(integer=1)))
    numbers = Literal(collection=LiteralCollection(literals=[number] * SUBTASKS))
    mapped = shape is Shape.MAP
    parameter = Parameter(var=Variable(type=_INTEGERS if mapped else _INTEGER), default=numbers if mapped else number)
    spec = LaunchPlanSpec(
        workflow_id=place.identifier(ResourceType.WORKFLOW, shape.value),
        default_inputs=ParameterMap(parameters={"x": parameter}),
        fixed_inputs=LiteralMap(),
    )
    return LaunchPlanCreateRequest(id=place.identifier(ResourceType.LAUNCH_PLAN, shape.value), spec=spec)


def execution(place: Place, shape: Shape, name: str) -> ExecutionCreateRequest:
    """An execution of the launch plan of `shape`."""
    spec = ExecutionSpec(
        launch_plan=place.identifier(ResourceType.LAUNCH_PLAN, shape.value),
        metadata=ExecutionMetadata(mode=ExecutionMetadata.MANUAL),
    )
    return ExecutionCreateRequest(project=place.project, domain=place.domain, name=name, spec=spec)


def task_node(place: Place, node_id: str, name: str = WORK, version: str = "") -> Node:
    """A node that runs the task `name` on the workflow's input."""
    promise = BindingData(promise=OutputReference(node_id="", var="x"))
    return Node(
        id=node_id,
        metadata=NodeMetadata(name=name),
        inputs=[Binding(var="x", binding=promise)],
        task_node=TaskNode(reference_id=place.identifier(ResourceType.TASK, name, version)),
    )


def _nodes(place: Place, shape: Shape, version: str) -> list[Node]:
    if shape is Shape.FANOUT:
        return [task_node(place, f"n{number}", version=version) for number in range(FANOUT_NODES)]
    if shape is Shape.MAP:
        node = task_node(place, "n0", MAPPED, version)
        return [Node(id="n0", metadata=node.metadata, inputs=node.inputs, array_node=ArrayNode(node=node))]
    return [task_node(place, "n0", version=version)]


def _variables(**types: LiteralType) -> VariableMap:
    return VariableMap(variables={name: Variable(type=type_, description=name) for name, type_ in types.items()})
