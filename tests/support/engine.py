"""A fake engine: sends the events of flytepropeller in its order, and retries as it does (engine.md#event-sequences).

It runs task nodes, sub-workflows, dynamic tasks and map tasks of plain graphs; no branches, gates or launch plan nodes.
Tasks are Python functions over plain values, so an execution has the outputs that its workflow computes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetDataRequest
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, TaskLog, WorkflowExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
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
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.sandbox.engine.graph.node_ids import Parent, unique_id
from services.kit.objects.store import ObjectStore
from tests.support.engine_calls import Calls
from tests.support.graphs import ordered, task_of
from tests.support.literals import bound, python_values, to_literals


class TaskFailed(Exception):  # same
    """A task failed for good; the execution fails with it."""

    def __init__(self, error: ExecutionError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Dynamic:
    """The result of a task function that returns a workflow instead of outputs."""

    closure: CompiledWorkflowClosure


TaskFunction = Callable[..., Mapping[str, Any] | Dynamic]


@dataclass(frozen=True)
class _Scope:
    """A running workflow: that of the execution, or one nested in a node."""

    execution: WorkflowExecutionIdentifier
    closure: CompiledWorkflowClosure
    workflow: CompiledWorkflow
    parent: str = ""  # unique id of the node it runs in

    def node_id(self, spec_id: str) -> str:
        return unique_id(Parent(self.parent, 0) if self.parent else None, spec_id)

    def identifier(self, spec_id: str) -> NodeExecutionIdentifier:
        return NodeExecutionIdentifier(execution_id=self.execution, node_id=self.node_id(spec_id))


@dataclass
class Engine:
    """A fake engine that sends events through `admin` and stores data in `objects`."""

    admin: AdminServiceStub
    objects: ObjectStore
    functions: Mapping[str, TaskFunction]
    """The functions by name of their task."""
    pod_reasons: int = 0
    """Further QUEUED events of each attempt, one for each reason a pod reports while it starts (0 to 5 typically)."""
    calls: Calls = field(default_factory=Calls)

    async def run(
        self,
        execution: WorkflowExecutionIdentifier,
        closure: CompiledWorkflowClosure,
        inputs: LiteralMap | None = None,
    ) -> LiteralMap | None:
        """Run the execution to its end.

        Args:
            execution: Its identifier.
            closure: Its compiled workflow.
            inputs: Its inputs; requested from the service when absent.

        Returns:
            Its outputs; None when a task failed.

        Raises:
            WorkflowAborted: The responses to its events make the engine give up.
        """
        if inputs is None:
            data = await self.admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution))
            inputs = data.full_inputs
        scope = _Scope(execution, closure, closure.primary)
        await self._workflow(execution, WorkflowExecution.RUNNING)
        try:
            outputs = await self._graph(scope, inputs)
        except TaskFailed as failed:
            await self._workflow(execution, WorkflowExecution.FAILING, error=failed.error)
            await self._workflow(execution, WorkflowExecution.FAILED, error=failed.error)
            return None
        uri = await self._store(scope.identifier("end-node"), outputs)
        await self._workflow(execution, WorkflowExecution.SUCCEEDING)
        await self._workflow(execution, WorkflowExecution.SUCCEEDED, output_uri=uri)
        return outputs

    async def _graph(self, scope: _Scope, inputs: LiteralMap) -> LiteralMap:
        """Run all nodes from start node to end node, in the order of dependencies (engine.md#single-task-node)."""
        start = await self._store(scope.identifier("start-node"), inputs)
        await self._node(scope, "start-node", NodeExecution.SUCCEEDED, output_uri=start)
        values: dict[str, LiteralMap] = {"": inputs, "start-node": inputs}
        for node in ordered(scope.workflow.template.nodes):
            values[node.id] = await self._run_node(scope, node, bound(node.inputs, values))
        outputs = bound(scope.workflow.template.outputs, values)
        await self._node(scope, "end-node", NodeExecution.QUEUED)
        uri = await self._store(scope.identifier("end-node"), outputs)
        await self._node(scope, "end-node", NodeExecution.SUCCEEDED, output_uri=uri)
        return outputs

    async def _run_node(self, scope: _Scope, node: Node, inputs: LiteralMap) -> LiteralMap:
        kind = node.WhichOneof("target")
        flags = {"is_parent": kind == "workflow_node", "is_array": kind == "array_node"}
        input_uri = await self._store(scope.identifier(node.id), inputs, "inputs.pb")
        await self._node(scope, node.id, NodeExecution.QUEUED, input_uri=input_uri, **flags)
        try:
            if kind == "workflow_node":
                outputs = await self._sub_workflow(scope, node, inputs)
            elif kind == "array_node":
                outputs = await self._map_task(scope, node, inputs, input_uri)
            elif kind == "task_node":
                outputs = await self._task_node(scope, node, inputs, input_uri)
            else:
                raise NotImplementedError(f"this engine runs no {kind}")
        except TaskFailed as failed:
            await self._node(scope, node.id, NodeExecution.FAILED, error=failed.error)
            raise
        uri = await self._store(scope.identifier(node.id), outputs)
        metadata = {"task_node_metadata": TaskNodeMetadata()} if kind == "task_node" else {}
        await self._node(scope, node.id, NodeExecution.SUCCEEDED, output_uri=uri, **flags, **metadata)
        return outputs

    async def _sub_workflow(self, scope: _Scope, node: Node, inputs: LiteralMap) -> LiteralMap:
        await self._node(scope, node.id, NodeExecution.RUNNING, is_parent=True)
        reference = node.workflow_node.sub_workflow_ref
        for workflow in scope.closure.sub_workflows:
            if workflow.template.id == reference:
                return await self._graph(
                    _Scope(scope.execution, scope.closure, workflow, scope.node_id(node.id)), inputs
                )
        raise LookupError(f"the closure has no sub-workflow {reference.name}")

    async def _task_node(self, scope: _Scope, node: Node, inputs: LiteralMap, input_uri: str) -> LiteralMap:
        task = task_of(scope.closure, node.task_node.reference_id)
        attempts = task.template.metadata.retries.retries + 1
        for attempt in range(attempts):
            report = _Attempt(self, scope, node, task, attempt)
            outcome = await self._attempt(report, inputs, input_uri, running=attempt > 0)
            if isinstance(outcome, Dynamic):
                return await self._dynamic(scope, node, outcome, inputs)
            if isinstance(outcome, LiteralMap):
                return outcome
            error = outcome
        raise TaskFailed(error)

    async def _attempt(
        self, report: "_Attempt", inputs: LiteralMap, input_uri: str, *, running: bool
    ) -> LiteralMap | Dynamic | ExecutionError:
        """Run one attempt; the node reports RUNNING after its first attempt's QUEUED, and nothing for a retry."""
        scope, node = report.scope, report.node
        await report.send(TaskExecution.QUEUED, input_uri=input_uri, reason="task submitted to K8s")
        if not running:
            await self._node(scope, node.id, NodeExecution.RUNNING)
        for number in range(self.pod_reasons):
            await report.send(TaskExecution.QUEUED, version=number + 1, reason=f"[ContainersNotReady]: {number}")
        log = TaskLog(uri=f"http://logs/{scope.node_id(node.id)}/{report.attempt}", name="Kubernetes Logs")
        await report.send(TaskExecution.RUNNING, logs=[log])
        try:
            outcome = self._call(report.task, python_values(inputs))
        except Exception as raised:  # noqa: BLE001  # all errors of a task are its user's
            error = ExecutionError(code="USER:Unknown", message=repr(raised), kind=ExecutionError.USER)
            await report.send(TaskExecution.FAILED, error=error, logs=[log])
            return error
        outputs = LiteralMap() if isinstance(outcome, Dynamic) else to_literals(outcome)
        uri = await self._store(scope.identifier(node.id), outputs)
        await report.send(TaskExecution.SUCCEEDED, output_uri=uri, logs=[log])
        return outcome if isinstance(outcome, Dynamic) else outputs

    def _call(self, task: CompiledTask, arguments: Mapping[str, Any]) -> Mapping[str, Any] | Dynamic:
        return self.functions[task.template.id.name](**arguments)

    async def _dynamic(self, scope: _Scope, node: Node, made: Dynamic, inputs: LiteralMap) -> LiteralMap:
        """Run the graph that a dynamic task returned, below its node (engine.md#dynamic-nodes)."""
        metadata = TaskNodeMetadata()
        metadata.dynamic_workflow.id.CopyFrom(made.closure.primary.template.id)
        metadata.dynamic_workflow.compiled_workflow.CopyFrom(made.closure)
        metadata.dynamic_workflow.dynamic_job_spec_uri = self.objects.uri("metadata", "futures.pb")
        await self._node(
            scope, node.id, NodeExecution.DYNAMIC_RUNNING, task_node_metadata=metadata, is_parent=True, is_dynamic=True
        )
        return await self._graph(
            _Scope(scope.execution, made.closure, made.closure.primary, scope.node_id(node.id)), inputs
        )

    async def _map_task(self, scope: _Scope, node: Node, inputs: LiteralMap, input_uri: str) -> LiteralMap:
        """Run one task execution for the whole array; subtasks are its external resources (engine.md#map-tasks)."""
        task = task_of(scope.closure, node.array_node.node.task_node.reference_id)
        report = _Attempt(self, scope, node, task, 0, array=True)
        arguments = python_values(inputs)
        width = max((len(value) for value in arguments.values() if isinstance(value, list)), default=0)
        await report.send(
            TaskExecution.QUEUED,
            input_uri=input_uri,
            resources=[_subtask(index, "UNDEFINED") for index in range(width)],
        )
        await self._node(scope, node.id, NodeExecution.RUNNING, is_array=True)
        results: dict[str, list[Any]] = {}
        for index in range(width):
            await report.send(TaskExecution.RUNNING, version=index, resources=[_subtask(index, "RUNNING")])
            own = {name: value[index] if isinstance(value, list) else value for name, value in arguments.items()}
            outcome = self._call(task, own)
            if isinstance(outcome, Dynamic):
                raise NotImplementedError("a map task over dynamic tasks")
            for name, value in outcome.items():
                results.setdefault(name, []).append(value)
        outputs = to_literals(results)
        uri = await self._store(scope.identifier(node.id), outputs)
        done = [_subtask(index, "SUCCEEDED") for index in range(width)]
        await report.send(TaskExecution.SUCCEEDED, output_uri=uri, resources=done)
        return outputs

    async def _store(self, node: NodeExecutionIdentifier, values: LiteralMap, name: str = "outputs.pb") -> str:
        execution = node.execution_id
        folder = f"{execution.project}-{execution.domain}-{execution.name}"
        uri = self.objects.uri("metadata", "propeller", folder, node.node_id, "data", "0", name)
        await self.objects.put(uri, values.SerializeToString())
        return uri

    async def _workflow(
        self, execution: WorkflowExecutionIdentifier, phase: WorkflowExecution.Phase, **fields: Any
    ) -> None:
        event = WorkflowExecutionEvent(
            execution_id=execution, producer_id="propeller", phase=phase, occurred_at=_now(), **fields
        )
        request = WorkflowExecutionEventRequest(event=event)
        name = WorkflowExecution.Phase.Name(phase)
        await self.calls.send(self.admin.CreateWorkflowEvent, request, execution.name, name)

    async def _node(self, scope: _Scope, spec_id: str, phase: NodeExecution.Phase, **fields: Any) -> None:
        event = NodeExecutionEvent(
            id=scope.identifier(spec_id),
            producer_id="propeller",
            phase=phase,
            occurred_at=_now(),
            reported_at=_now(),
            spec_node_id=spec_id,
            node_name=spec_id,
            event_version=1,
            **fields,
        )
        if scope.parent:
            event.parent_node_metadata.CopyFrom(ParentNodeExecutionMetadata(node_id=scope.parent))
            event.retry_group = "0"
        request = NodeExecutionEventRequest(event=event)
        name = NodeExecution.Phase.Name(phase)
        await self.calls.send(self.admin.CreateNodeEvent, request, scope.execution.name, name)


@dataclass(frozen=True)
class _Attempt:
    """The reports of one attempt; those of array nodes have neither producer nor report time (engine.md#map-tasks)."""

    engine: Engine
    scope: _Scope
    node: Node
    task: CompiledTask
    attempt: int
    array: bool = False

    async def send(
        self,
        phase: TaskExecution.Phase,
        *,
        version: int = 0,
        reason: str = "",
        resources: Sequence[ExternalResourceInfo] = (),
        **fields: Any,
    ) -> None:
        node = self.scope.identifier(self.node.id)
        event = TaskExecutionEvent(
            task_id=self.task.template.id,
            parent_node_execution_id=node,
            retry_attempt=self.attempt,
            phase=phase,
            phase_version=version,
            occurred_at=_now(),
            task_type="container_array" if self.array else self.task.template.type,
            event_version=1,
            metadata=TaskExecutionMetadata(
                generated_name=f"{self.scope.execution.name}-{node.node_id}-{self.attempt}",
                plugin_identifier="k8s-array" if self.array else "container",
                external_resources=resources,
            ),
            **fields,
        )
        if not self.array:
            event.producer_id = "propeller"
            event.reported_at.CopyFrom(_now())
        if reason:
            event.reason = reason
            event.reasons.add(reason=reason, occurred_at=event.occurred_at)
        request = TaskExecutionEventRequest(event=event)
        name = TaskExecution.Phase.Name(phase)
        await self.engine.calls.send(self.engine.admin.CreateTaskEvent, request, self.scope.execution.name, name)


def _subtask(index: int, phase: str) -> ExternalResourceInfo:
    return ExternalResourceInfo(index=index, external_id=f"pod-n{index}-0", phase=phase)


def _now() -> Timestamp:
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    return now
