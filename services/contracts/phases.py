"""Terminal phases of executions, nodes and tasks, as sets of enum numbers.

After a terminal phase no other phase is accepted (events.md#workflow-phases, events.md#later-node-events,
events.md#task-event-checks).
"""

from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution

WORKFLOW_TERMINAL: frozenset[int] = frozenset(
    (
        WorkflowExecution.SUCCEEDED,
        WorkflowExecution.FAILED,
        WorkflowExecution.TIMED_OUT,
        WorkflowExecution.ABORTED,
    )
)

NODE_TERMINAL: frozenset[int] = frozenset(
    (
        NodeExecution.SUCCEEDED,
        NodeExecution.FAILED,
        NodeExecution.TIMED_OUT,
        NodeExecution.ABORTED,
        NodeExecution.SKIPPED,
        NodeExecution.RECOVERED,
    )
)

# RETRYABLE_FAILED is no member: another attempt may follow under the same id.
TASK_TERMINAL: frozenset[int] = frozenset((TaskExecution.SUCCEEDED, TaskExecution.FAILED, TaskExecution.ABORTED))
