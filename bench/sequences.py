"""The events that an engine sends for an execution of each shape, in its order (engine.md#event-sequences).

A sequence is serialized once. Executions differ in their names only, and these have one length, so an event of an
execution is the serialized event with the name instead of the stand-in. Times are those of the first execution:
servers use only their order.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, TaskLog, WorkflowExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.workflow_pb2 import Node
from flyteidl.event.event_pb2 import (
    ExternalResourceInfo,
    NodeExecutionEvent,
    ParentNodeExecutionMetadata,
    TaskExecutionEvent,
    TaskExecutionMetadata,
    TaskNodeMetadata,
    WorkflowExecutionEvent,
)
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from bench.entities import (
    FANOUT_NODES,
    MAPPED,
    SERVICE,
    SUBTASKS,
    WORK,
    ProjectDomain,
    Shape,
    execution,
    task,
    task_node,
    workflow,
)

# The length of the longest name that Flyte generates for an execution; no other text of an event is like the stand-in.
NAME_LENGTH = 20
STAND_IN = "q" * NAME_LENGTH
_STAND_IN_BYTES = STAND_IN.encode()

# A pod reports some reasons while it starts, 0 to 5 typically; each is an event (engine.md#single-task-node).
POD_REASONS = ("[ContainersNotReady|ContainerCreating]: containers with unready status", "Successfully pulled image")
DYNAMIC_NODES = 10
# A round of the engine finds some subtasks changed and reports them in one event; each changes a few times.
CHANGED_TOGETHER = 20
SUBTASK_PHASES = (TaskExecution.INITIALIZING, TaskExecution.RUNNING, TaskExecution.SUCCEEDED)

_STEP_NANOS = 10_000_000


class Entity(NamedTuple):
    """An entity with a phase: the execution (no node), a node, or the attempt of a node's task."""

    node: str = ""
    parent: str = ""
    is_task: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One event: the path of its method, its serialized request, its entity and that one's new phase, its reason."""

    path: str
    request: bytes
    entity: Entity
    phase: int
    reason: str = ""

    @property
    def ends(self) -> bool:
        """Whether it ends a node or a task, so a server may have it already (events.md#reactions-of-the-engine)."""
        succeeded = TaskExecution.SUCCEEDED if self.entity.is_task else NodeExecution.SUCCEEDED
        return bool(self.entity.node) and self.phase == succeeded

    def of(self, name: bytes) -> bytes:
        """Return the request for the execution `name`."""
        return self.request.replace(_STAND_IN_BYTES, name)


@dataclass(frozen=True)
class Play:
    """An execution of a shape: the request that creates it, and its events."""

    shape: Shape
    create: bytes
    steps: tuple[Step, ...]

    def create_for(self, name: bytes) -> bytes:
        """Return the request that creates the execution `name`."""
        return self.create.replace(_STAND_IN_BYTES, name)


def play(scope: ProjectDomain, shape: Shape) -> Play:
    """Return the events of an execution of `shape` that succeeds."""
    script = _Script(scope)
    script.workflow(WorkflowExecution.RUNNING)
    script.boundary_start("")
    if shape is Shape.DYNAMIC:
        _dynamic(script)
    elif shape is Shape.MAP:
        _map(script)
    else:
        _tasks(script, "", [f"n{number}" for number in range(FANOUT_NODES if shape is Shape.FANOUT else 1)])
    script.boundary_end("")
    script.workflow(WorkflowExecution.SUCCEEDING)
    script.workflow(WorkflowExecution.SUCCEEDED, output_uri=script.uri("end-node", "outputs.pb"))
    return Play(shape, execution(scope, shape, STAND_IN).SerializeToString(), tuple(script.steps))


def _tasks(script: "_Script", parent: str, spec_ids: Sequence[str]) -> None:
    """Add parallel tasks: the engine visits all of them once a round and reports their changes."""
    nodes = [(nested(parent, spec_id), spec_id) for spec_id in spec_ids]
    for node, spec_id in nodes:
        script.node(node, NodeExecution.QUEUED, spec_id, parent, input_uri=script.uri(node, "inputs.pb"))
    for node, spec_id in nodes:
        script.task(node, TaskExecution.QUEUED, reason="task submitted to K8s", input_uri=script.uri(node, "inputs.pb"))
        script.node(node, NodeExecution.RUNNING, spec_id, parent)
    for version, reason in enumerate(POD_REASONS, 1):
        for node, _ in nodes:
            script.task(node, TaskExecution.QUEUED, version, reason=reason)
    for node, _ in nodes:
        script.task(node, TaskExecution.RUNNING, logs=_logs(node))
    for node, spec_id in nodes:
        uri = script.uri(node, "outputs.pb")
        script.task(node, TaskExecution.SUCCEEDED, output_uri=uri, logs=_logs(node))
        script.node(
            node, NodeExecution.SUCCEEDED, spec_id, parent, output_uri=uri, task_node_metadata=TaskNodeMetadata()
        )


def _dynamic(script: "_Script") -> None:
    """Add a task that makes a workflow, which then runs below its node (engine.md#dynamic-nodes)."""
    node = "n0"
    script.node(node, NodeExecution.QUEUED, node, input_uri=script.uri(node, "inputs.pb"))
    script.task(node, TaskExecution.QUEUED, reason="task submitted to K8s", input_uri=script.uri(node, "inputs.pb"))
    script.node(node, NodeExecution.RUNNING, node)
    for version, reason in enumerate(POD_REASONS, 1):
        script.task(node, TaskExecution.QUEUED, version, reason=reason)
    script.task(node, TaskExecution.RUNNING, logs=_logs(node))
    script.task(node, TaskExecution.SUCCEEDED, output_uri=script.uri(node, "futures.pb"), logs=_logs(node))
    spec_ids = [f"dn{number}" for number in range(DYNAMIC_NODES)]
    metadata = TaskNodeMetadata()
    metadata.dynamic_workflow.compiled_workflow.CopyFrom(_made(script.scope, spec_ids))
    metadata.dynamic_workflow.id.CopyFrom(metadata.dynamic_workflow.compiled_workflow.primary.template.id)
    metadata.dynamic_workflow.dynamic_job_spec_uri = script.uri(node, "futures.pb")
    flags: dict[str, Any] = {"is_parent": True, "is_dynamic": True}
    script.node(node, NodeExecution.DYNAMIC_RUNNING, node, task_node_metadata=metadata, **flags)
    script.boundary_start(node)
    _tasks(script, node, spec_ids)
    script.boundary_end(node)
    script.node(node, NodeExecution.SUCCEEDED, node, output_uri=script.uri(node, "outputs.pb"), **flags)


def _made(scope: ProjectDomain, spec_ids: Iterable[str]) -> CompiledWorkflowClosure:
    template = workflow(scope, Shape.DYNAMIC).spec.template
    template.id.CopyFrom(scope.identifier(ResourceType.WORKFLOW, "dynamic.made"))
    del template.nodes[:]
    boundary = [Node(id="start-node"), Node(id="end-node")]
    template.nodes.extend([*boundary, *(task_node(scope, spec_id) for spec_id in spec_ids)])
    work = task(scope, WORK)
    work.spec.template.id.CopyFrom(work.id)
    return CompiledWorkflowClosure(
        primary=CompiledWorkflow(template=template), tasks=[CompiledTask(template=work.spec.template)]
    )


def _map(script: "_Script") -> None:
    """Add one attempt for a whole array; its subtasks are external resources (engine.md#map-tasks)."""
    node = "n0"
    inputs = script.uri(node, "inputs.pb")
    script.node(node, NodeExecution.QUEUED, node, input_uri=inputs, is_array=True)
    everything = range(SUBTASKS)
    script.array(node, TaskExecution.QUEUED, 0, everything, TaskExecution.UNDEFINED, input_uri=inputs)
    script.node(node, NodeExecution.RUNNING, node, is_array=True)
    version = 0
    for first in range(0, SUBTASKS, CHANGED_TOGETHER):
        for phase in SUBTASK_PHASES:
            script.array(node, TaskExecution.RUNNING, version, range(first, first + CHANGED_TOGETHER), phase)
            version += 1
    uri = script.uri(node, "outputs.pb")
    script.array(node, TaskExecution.SUCCEEDED, 0, everything, TaskExecution.SUCCEEDED, output_uri=uri)
    script.node(node, NodeExecution.SUCCEEDED, node, output_uri=uri, is_array=True)


def nested(parent: str, spec_id: str) -> str:
    """Return the unique id of a node below `parent` (engine.md#node-ids); those here are too short to be hashed."""
    return f"{parent}-0-{spec_id}" if parent else spec_id


def _logs(node: str) -> list[TaskLog]:
    uri = f"https://logs.example.org/#!/log/flytesnacks-development/{STAND_IN}-{node}-0/pod?namespace=flytesnacks"
    return [TaskLog(uri=uri, name="Kubernetes Logs (User)", message_format=TaskLog.JSON)]


@dataclass
class _Script:
    """A collector of the steps of one execution."""

    scope: ProjectDomain
    steps: list[Step] = field(default_factory=list)
    began: int = field(default_factory=time.time_ns)

    @property
    def execution(self) -> WorkflowExecutionIdentifier:
        return WorkflowExecutionIdentifier(project=self.scope.project, domain=self.scope.domain, name=STAND_IN)

    def uri(self, node: str, file: str) -> str:
        folder = f"{self.scope.project}-{self.scope.domain}-{STAND_IN}"
        return f"s3://flyte-bucket/metadata/propeller/{folder}/{node}/data/0/{file}"

    def workflow(self, phase: WorkflowExecution.Phase, **fields: Any) -> None:
        event = WorkflowExecutionEvent(
            execution_id=self.execution, producer_id="propeller", phase=phase, occurred_at=self._now(), **fields
        )
        self._add("CreateWorkflowEvent", WorkflowExecutionEventRequest(event=event), Entity(), phase)

    def node(self, node: str, phase: NodeExecution.Phase, spec_id: str, parent: str = "", **fields: Any) -> None:
        event = NodeExecutionEvent(
            id=self._node(node),
            producer_id="propeller",
            phase=phase,
            occurred_at=self._now(),
            reported_at=self._now(),
            spec_node_id=spec_id,
            node_name=spec_id,
            event_version=1,
            **fields,
        )
        if parent:
            event.parent_node_metadata.CopyFrom(ParentNodeExecutionMetadata(node_id=parent))
            event.retry_group = "0"
        self._add("CreateNodeEvent", NodeExecutionEventRequest(event=event), Entity(node, parent), phase)

    def boundary_start(self, parent: str) -> None:
        node = nested(parent, "start-node")
        uri = self.uri(node, "outputs.pb")
        self.node(node, NodeExecution.SUCCEEDED, "start-node", parent, output_uri=uri)

    def boundary_end(self, parent: str) -> None:
        node = nested(parent, "end-node")
        self.node(node, NodeExecution.QUEUED, "end-node", parent, input_uri=self.uri(node, "inputs.pb"))
        self.node(node, NodeExecution.SUCCEEDED, "end-node", parent, output_uri=self.uri(node, "outputs.pb"))

    def task(self, node: str, phase: TaskExecution.Phase, version: int = 0, *, reason: str = "", **fields: Any) -> None:
        metadata = TaskExecutionMetadata(generated_name=f"{STAND_IN}-{node}-0", plugin_identifier="container")
        event = self._attempt(node, phase, version, metadata)
        event.MergeFrom(TaskExecutionEvent(producer_id="propeller", reported_at=self._now(), **fields))
        event.task_type = "python-task"
        if reason:
            event.reason = reason
            event.reasons.add(reason=reason, occurred_at=event.occurred_at)
        request = TaskExecutionEventRequest(event=event)
        self._add("CreateTaskEvent", request, Entity(node, is_task=True), phase, reason)

    def array(
        self,
        node: str,
        phase: TaskExecution.Phase,
        version: int,
        indexes: Iterable[int],
        subtask_phase: TaskExecution.Phase,
        **fields: Any,
    ) -> None:
        """Add an event of an array's attempt; it has neither producer nor report time (engine.md#map-tasks)."""
        resources = [
            ExternalResourceInfo(index=index, external_id=f"{STAND_IN}-{node}-n{index}-0", phase=subtask_phase)
            for index in indexes
        ]
        metadata = TaskExecutionMetadata(
            generated_name=f"{STAND_IN}-{node}-0", plugin_identifier="k8s-array", external_resources=resources
        )
        event = self._attempt(node, phase, version, metadata)
        event.MergeFrom(TaskExecutionEvent(task_type="container_array", **fields))
        self._add("CreateTaskEvent", TaskExecutionEventRequest(event=event), Entity(node, is_task=True), phase)

    def _attempt(
        self, node: str, phase: TaskExecution.Phase, version: int, metadata: TaskExecutionMetadata
    ) -> TaskExecutionEvent:
        return TaskExecutionEvent(
            task_id=self.scope.identifier(ResourceType.TASK, MAPPED if metadata.external_resources else WORK),
            parent_node_execution_id=self._node(node),
            phase=phase,
            phase_version=version,
            occurred_at=self._now(),
            event_version=1,
            metadata=metadata,
        )

    def _node(self, node: str) -> NodeExecutionIdentifier:
        return NodeExecutionIdentifier(execution_id=self.execution, node_id=node)

    def _add(self, method: str, request: Message, entity: Entity, phase: int, reason: str = "") -> None:
        self.steps.append(Step(SERVICE + method, request.SerializeToString(), entity, phase, reason))

    def _now(self) -> Timestamp:
        now = Timestamp()
        now.FromNanoseconds(self.began + len(self.steps) * _STEP_NANOS)
        return now
