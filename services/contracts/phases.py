"""Which phases end an execution, a node or a task: after one of them nothing more may change (events.md 2.1, 3.3, 4.1).

Sets of the enum numbers, as they stand in messages and events.
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

# RETRYABLE_FAILED is not among them: another attempt may follow under the same id.
TASK_TERMINAL: frozenset[int] = frozenset((TaskExecution.SUCCEEDED, TaskExecution.FAILED, TaskExecution.ABORTED))
