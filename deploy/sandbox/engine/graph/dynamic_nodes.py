"""The dynamic phase of a task node: the nodes that its task returned run below it (engine.md#dynamic-nodes)."""

from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.event.event_pb2 import DynamicWorkflowNodeMetadata, TaskNodeMetadata

from deploy.sandbox.engine.graph.attempts import Attempts
from deploy.sandbox.engine.graph.dynamic import (
    DynamicFailed,
    compiled,
    dynamic_id,
    dynamic_template,
    required_launch_plans,
)
from deploy.sandbox.engine.graph.inputs import LaunchPlansFetched
from deploy.sandbox.engine.graph.interface import FetchLaunchPlans
from deploy.sandbox.engine.graph.library import Library
from deploy.sandbox.engine.graph.node import Node
from deploy.sandbox.engine.graph.node_ids import Parent
from deploy.sandbox.engine.graph.roles import RunningWorkflow


class DynamicNodes:
    """The nodes that an attempt returned. When they have ended, the attempts are completed or given up."""

    abort_reason = "Dynamic workflow failed"

    def __init__(self, node: Node, task: TaskTemplate, attempts: Attempts) -> None:
        self._node = node
        self._task = task
        self._attempts = attempts
        self._running: RunningWorkflow | None = None

    def begin(self, attempt: int, spec: DynamicJobSpec) -> None:
        """Compile `spec` and run it; launch plans that it refers to are read first."""
        node, execution = self._node, self._node.runtime.run.execution
        # The nodes have slots of their own.
        node.runtime.slots.release(node.node_id)
        made_by = "/".join((execution.project, execution.domain, execution.name, node.node_id, str(attempt)))
        identifier = dynamic_id(execution.project, execution.domain, node.spec.id, made_by)
        template = dynamic_template(spec, identifier, self._task)

        def fetched(result: LaunchPlansFetched) -> None:
            node.runtime.forget(FetchLaunchPlans, node.node_id)
            try:
                closure = compiled(template, spec, self._task, result.launch_plans)
            except DynamicFailed as failed:
                self._attempts.give_up(failed.error)
            else:
                self._run(attempt, closure)

        try:
            needed = required_launch_plans(template, spec)
        except DynamicFailed as failed:
            self._attempts.give_up(failed.error)
            return
        if needed:
            node.runtime.expect(FetchLaunchPlans(node.node_id, needed), node.node_id, fetched)
        else:
            fetched(LaunchPlansFetched(node.node_id, ()))

    def _run(self, attempt: int, closure: CompiledWorkflowClosure) -> None:
        node = self._node
        node.flags["is_dynamic"] = True
        metadata = TaskNodeMetadata(
            dynamic_workflow=DynamicWorkflowNodeMetadata(
                id=closure.primary.template.id,
                compiled_workflow=closure,
                dynamic_job_spec_uri=f"{node.output_prefix(attempt)}/futures.pb",
            )
        )
        node.emit(NodeExecution.DYNAMIC_RUNNING, task_node_metadata=metadata, is_parent=True)
        library = Library.of(closure, is_dynamic=True)
        self._running = node.around.nested(library, closure.primary, Parent(node.node_id, attempt), self)
        self._running.start(LiteralMap())

    def abort(self, reason: str) -> None:
        """Abort the nodes."""
        self._node.runtime.forget(FetchLaunchPlans, self._node.node_id)
        if self._running is not None:
            self._running.abort(reason)

    # ---- Owner of the workflow

    def failing(self, error: ExecutionError) -> None:
        """Report nothing: the node fails when its nodes have ended."""

    def handling_failure(self, error: ExecutionError) -> None:
        """Report nothing: dynamic workflows have no failure node."""

    def succeeded(self, outputs: LiteralMap, uri: str) -> None:  # noqa: ARG002  # the node has a copy of its own
        """End with the outputs of the workflow."""
        self._attempts.complete(outputs, stored=False)

    def failed(self, error: ExecutionError) -> None:
        """Fail; the task does not run again."""
        self._attempts.give_up(error)
