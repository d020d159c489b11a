"""The transitions between phases, as data.

Each pair of a stored phase and an event's phase has a result; the folds raise an error for those that refuse the event.
Rules: events.md#workflow-phases, events.md#later-node-events, events.md#task-event-checks.
"""

from enum import Enum

from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution

from services.contracts.phases import NODE_TERMINAL, TASK_TERMINAL


class TransitionResult(Enum):
    """What an event's phase means for a stored phase."""

    APPLY = "ok"
    LATE = "late"  # OK without effect: an earlier phase does not come back
    AGAIN = "again"  # recorded already
    AGAIN_UNLESS_NEWER = "newer"  # recorded already, unless the event's phase version is higher
    AGAIN_ELSE_OVER = "last"  # the same in a terminal phase: a higher version is refused like OVER
    REFUSED = "refused"  # refused without a typed detail, as in flyteadmin: the engine distinguishes it from OVER
    OVER = "over"  # the stored phase is terminal


# Rows: stored. Columns: event, in the order of the rows. Events that would take an execution back to a former phase are
# late or refused; those that are late overwrite the phase in flyteadmin (differences.md#events).
_WORKFLOW = """
UNDEFINED   again   ok      ok      ok      ok      ok      ok      ok      ok      ok
QUEUED      late    ok      ok      ok      ok      ok      ok      ok      ok      ok
RUNNING     late    refused again   ok      ok      ok      ok      ok      ok      ok
SUCCEEDING  late    late    late    again   ok      ok      ok      ok      ok      ok
FAILING     late    late    late    ok      again   ok      ok      ok      ok      ok
ABORTING    refused refused refused refused refused again   ok      ok      ok      ok
SUCCEEDED   over    over    over    over    over    over    again   over    over    over
FAILED      over    over    over    over    over    over    over    again   over    over
TIMED_OUT   over    over    over    over    over    over    over    over    again   over
ABORTED     over    over    over    over    over    over    over    over    over    again
"""


def _parse(table: str) -> dict[tuple[int, int], TransitionResult]:
    rows = [line.split() for line in table.strip().splitlines()]
    phases = [WorkflowExecution.Phase.Value(row[0]) for row in rows]
    return {
        (stored, event): TransitionResult(cell)
        for stored, row in zip(phases, rows, strict=True)
        for event, cell in zip(phases, row[1:], strict=True)
    }


def _node_result(*, same: bool, terminal: bool) -> TransitionResult:
    if same:
        return TransitionResult.AGAIN
    return TransitionResult.OVER if terminal else TransitionResult.APPLY


def _task_result(*, same: bool, terminal: bool) -> TransitionResult:
    if same:
        return TransitionResult.AGAIN_ELSE_OVER if terminal else TransitionResult.AGAIN_UNLESS_NEWER
    return TransitionResult.OVER if terminal else TransitionResult.APPLY


WORKFLOW: dict[tuple[int, int], TransitionResult] = _parse(_WORKFLOW)

# Phases of nodes come in any order until one is terminal (events.md#later-node-events).
NODE: dict[tuple[int, int], TransitionResult] = {
    (stored, event): _node_result(same=stored == event, terminal=stored in NODE_TERMINAL)
    for stored in NodeExecution.Phase.values()
    for event in NodeExecution.Phase.values()
}

# The same for tasks, whose phases repeat with a rising version (events.md#phase-versions).
TASK: dict[tuple[int, int], TransitionResult] = {
    (stored, event): _task_result(same=stored == event, terminal=stored in TASK_TERMINAL)
    for stored in TaskExecution.Phase.values()
    for event in TaskExecution.Phase.values()
}
