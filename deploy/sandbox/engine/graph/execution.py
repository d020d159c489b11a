"""The state machine of one execution."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.workflow_pb2 import WorkflowMetadata

from deploy.sandbox.engine.graph.events import workflow_event
from deploy.sandbox.engine.graph.failure import engine_failed
from deploy.sandbox.engine.graph.inputs import (
    Abort,
    Begin,
    CacheLookedUp,
    CacheStored,
    ChildFinished,
    ChildStarted,
    Done,
    FailNode,
    FailRun,
    Input,
    LaunchPlansFetched,
    RecoveredLookedUp,
    SignalArrived,
    TaskFinished,
    TaskStarted,
    TaskWaiting,
    TimePassed,
)
from deploy.sandbox.engine.graph.interface import (
    Action,
    FetchLaunchPlans,
    Finish,
    LookUpCache,
    LookUpRecovered,
    Run,
    StartChild,
    StartTask,
    StoreCache,
    WaitForSignal,
)
from deploy.sandbox.engine.graph.library import Library
from deploy.sandbox.engine.graph.runtime import Runtime
from deploy.sandbox.engine.graph.scope import Scope

log = logging.getLogger(__name__)

# The action that each result belongs to, and the name of the field with its key.
_RESULTS: Final[Mapping[type, tuple[type, str]]] = {
    TaskWaiting: (StartTask, "key"),
    TaskStarted: (StartTask, "key"),
    TaskFinished: (StartTask, "key"),
    ChildStarted: (StartChild, "key"),
    ChildFinished: (StartChild, "key"),
    CacheLookedUp: (LookUpCache, "key"),
    CacheStored: (StoreCache, "key"),
    SignalArrived: (WaitForSignal, "node_id"),
    RecoveredLookedUp: (LookUpRecovered, "node_id"),
    LaunchPlansFetched: (FetchLaunchPlans, "node_id"),
}


class Execution:
    """Runs one execution: takes inputs, returns actions (`interface`)."""

    abort_reason = "Some node execution failed, auto-abort."

    def __init__(self, run: Run) -> None:
        self._runtime = Runtime(run)
        self._is_over = False
        template = run.closure.primary.template
        policy = template.metadata.on_failure
        self._scope = Scope(
            self._runtime,
            Library.of(run.closure),
            run.closure.primary,
            None,
            self,
            fails_late=policy == WorkflowMetadata.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE,
            interruptible=template.metadata_defaults.interruptible,
        )

    def handle(self, received: Input, at: datetime) -> list[Action]:
        """Take one input.

        Args:
            received: What happened.
            at: When, in UTC; not earlier than that of the input before.

        Returns:
            What to do now, in this order.
        """
        self._runtime.at = at
        try:
            if isinstance(received, Done):
                self._runtime.done(received.number)
            elif not self._is_over:
                self._take(received)
            return self._runtime.take_actions()
        except Exception as error:
            log.exception("the state machine failed", extra=self._about)
            return self._end_failed(engine_failed(error))

    def _end_failed(self, error: ExecutionError) -> list[Action]:
        """Fail the execution after an error of this code: with its nodes if they can be ended, else without them."""
        ended: list[Action] = []
        try:
            if not self._is_over:
                self._scope.fail(error)
            ended = self._runtime.take_actions()
        except Exception:
            log.exception("the nodes of an execution cannot be ended", extra=self._about)
        self._runtime.abandon()
        if not self._is_over:
            self._finish(WorkflowExecution.FAILED, error=error)
        return ended + self._runtime.take_actions()

    @property
    def _about(self) -> Mapping[str, str]:
        execution = self._runtime.run.execution
        return {"execution": f"{execution.project}/{execution.domain}/{execution.name}"}

    def _take(self, received: Input) -> None:
        if type(received) in _RESULTS:
            action, key = _RESULTS[type(received)]
            self._runtime.route(action, getattr(received, key), received)
        elif isinstance(received, Begin):
            self._event(WorkflowExecution.RUNNING)
            self._scope.start(self._runtime.run.inputs)
        elif isinstance(received, TimePassed):
            self._runtime.pass_time()
        elif isinstance(received, Abort):
            self._scope.abort(received.cause)
            self._finish(WorkflowExecution.ABORTED)
        elif isinstance(received, FailRun):
            self._scope.fail(received.error)
        elif isinstance(received, FailNode):
            node = self._runtime.nodes.get(received.node_id)
            if node is not None:
                node.fail_from_outside(received.error)

    @property
    def wake_at(self) -> datetime | None:
        """When `TimePassed` is to be passed in; None if no time is waited for."""
        return None if self._is_over else self._runtime.wake_at

    def outstanding(self) -> list[Action]:
        """Return the actions to carry out again after a restart."""
        return self._runtime.outstanding()

    # ---- Owner of the workflow

    def failing(self, error: ExecutionError) -> None:
        """Report FAILING."""
        self._event(WorkflowExecution.FAILING, error=error)

    def handling_failure(self, error: ExecutionError) -> None:
        """Report FAILING again, as flytepropeller does when the failure node starts."""
        self._event(WorkflowExecution.FAILING, error=error)

    def succeeded(self, outputs: LiteralMap, uri: str) -> None:  # noqa: ARG002  # they are at `uri`
        """Report SUCCEEDING and SUCCEEDED."""
        self._event(WorkflowExecution.SUCCEEDING)
        self._finish(WorkflowExecution.SUCCEEDED, output_uri=uri)

    def failed(self, error: ExecutionError) -> None:
        """Report FAILED."""
        self._finish(WorkflowExecution.FAILED, error=error)

    def _finish(self, phase: WorkflowExecution.Phase, **fields: Any) -> None:
        self._is_over = True
        self._event(phase, **fields)
        self._runtime.end_with(Finish(phase, fields.get("error")))

    def _event(self, phase: WorkflowExecution.Phase, **fields: Any) -> None:
        self._runtime.emit(workflow_event(self._runtime.run.execution, phase, self._runtime.at, **fields))
