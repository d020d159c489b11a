"""Every pair of stored phase and phase of an event, for the three kinds, through the fold of a batch.

Rows are the stored phase, columns the event's, as in events.md#workflow-phases; `ok` is applied, `late` OK without
effect, `AE` ALREADY_EXISTS, `T` a typed FAILED_PRECONDITION, `F` one without details. For tasks `v` is AE unless the
event's phase version is higher, and `t` the same in a terminal phase, where a higher version is T.
"""

from collections.abc import Iterator

import pytest
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution

from services.executions.rules.events.batch import Event
from services.kit.errors import ServiceError
from tests.support.event_makers import (
    EXECUTION_KEY,
    NODE_KEY,
    TASK_KEY,
    execution_state,
    node_event,
    task_event,
    workflow_event,
)
from tests.support.event_memory import Memory, verdict_of

# In flyteadmin an execution can go back (RUNNING after SUCCEEDING); here such events are late (differences.md#events).
WORKFLOW = """
            UNDEFINED QUEUED RUNNING SUCCEEDING FAILING ABORTING SUCCEEDED FAILED TIMED_OUT ABORTED
UNDEFINED   AE        ok     ok      ok         ok      ok       ok        ok     ok        ok
QUEUED      late      ok     ok      ok         ok      ok       ok        ok     ok        ok
RUNNING     late      F      AE      ok         ok      ok       ok        ok     ok        ok
SUCCEEDING  late      late   late    AE         ok      ok       ok        ok     ok        ok
FAILING     late      late   late    ok         AE      ok       ok        ok     ok        ok
ABORTING    F         F      F       F          F       AE       ok        ok     ok        ok
SUCCEEDED   T         T      T       T          T       T        AE        T      T         T
FAILED      T         T      T       T          T       T        T         AE     T         T
TIMED_OUT   T         T      T       T          T       T        T         T      AE        T
ABORTED     T         T      T       T          T       T        T         T      T         AE
"""

NODE = """
          UNDEFINED QUEUED RUNNING SUCCEEDED FAILING FAILED ABORTED SKIPPED TIMED_OUT DYNAMIC_RUNNING RECOVERED
(none)    ok        ok     ok      ok        ok      ok     ok      ok      ok        ok              ok
UNDEFINED AE        ok     ok      ok        ok      ok     ok      ok      ok        ok              ok
QUEUED    ok        AE     ok      ok        ok      ok     ok      ok      ok        ok              ok
RUNNING   ok        ok     AE      ok        ok      ok     ok      ok      ok        ok              ok
SUCCEEDED T         T      T       AE        T       T      T       T       T         T               T
FAILING   ok        ok     ok      ok        AE      ok     ok      ok      ok        ok              ok
FAILED    T         T      T       T         T       AE     T       T       T         T               T
ABORTED   T         T      T       T         T       T      AE      T       T         T               T
SKIPPED   T         T      T       T         T       T      T       AE      T         T               T
TIMED_OUT T         T      T       T         T       T      T       T       AE        T               T
DYNAMIC_RUNNING ok  ok     ok      ok        ok      ok     ok      ok      ok        AE              ok
RECOVERED T         T      T       T         T       T      T       T       T         T               AE
"""

TASK = """
          UNDEFINED QUEUED RUNNING SUCCEEDED ABORTED FAILED INITIALIZING WAITING_FOR_RESOURCES RETRYABLE_FAILED
(none)    ok        ok     ok      ok        ok      ok     ok           ok                    ok
UNDEFINED v         ok     ok      ok        ok      ok     ok           ok                    ok
QUEUED    ok        v      ok      ok        ok      ok     ok           ok                    ok
RUNNING   ok        ok     v       ok        ok      ok     ok           ok                    ok
SUCCEEDED T         T      T       t         T       T      T            T                     T
ABORTED   T         T      T       T         t       T      T            T                     T
FAILED    T         T      T       T         T       t      T            T                     T
INITIALIZING ok     ok     ok      ok        ok      ok     v            ok                    ok
WAITING_FOR_RESOURCES ok ok ok     ok        ok      ok     ok           v                     ok
RETRYABLE_FAILED ok ok     ok      ok        ok      ok     ok           ok                    v
"""

STORED_VERSION = 2
EXECUTION_TEXT = 'project:"p" domain:"d" name:"e"'
NODE_TEXT = f'node_id:"n0" execution_id:{{{EXECUTION_TEXT}}}'
TASK_TEXT = f'task_id:{{project:"p" domain:"d" name:"t" version:"v"}} node_execution_id:{{{NODE_TEXT}}}'


def cells(table: str) -> Iterator[tuple[str, str, str]]:
    (columns, *rows) = [line.split() for line in table.strip().splitlines()]
    for stored, *row in rows:
        for event, cell in zip(columns, row, strict=True):
            yield stored, event, cell


def assert_verdict(error: ServiceError | None, cell: str, current_phase: str, *messages: str) -> None:
    over = {"already_in_terminal_state": {"current_phase": current_phase}}
    expected = {
        "ok": ("OK", {}),
        "late": ("OK", {}),
        "AE": ("ALREADY_EXISTS", {}),
        "F": ("FAILED_PRECONDITION", {}),
        "T": ("FAILED_PRECONDITION", over),
    }
    assert verdict_of(error) == expected[cell]
    assert error is None or error.message in messages


def test_the_tables_have_every_pair() -> None:
    for table, phases, more in (
        (WORKFLOW, WorkflowExecution.Phase.keys(), []),
        (NODE, NodeExecution.Phase.keys(), ["(none)"]),
        (TASK, TaskExecution.Phase.keys(), ["(none)"]),
    ):
        pairs = [(stored, event) for stored, event, _ in cells(table)]
        assert len(pairs) == len(set(pairs))
        assert set(pairs) == {(stored, event) for stored in [*phases, *more] for event in phases}


@pytest.mark.parametrize(("stored", "event", "cell"), list(cells(WORKFLOW)))
def test_a_workflow_event_has_the_verdict_of_the_table(stored: str, event: str, cell: str) -> None:
    before = execution_state(stored)
    memory = Memory(executions=[before])
    changes = memory.take([workflow_event(event)])
    assert_verdict(
        changes.outcomes[0],
        cell,
        stored,
        f"This phase {event} was already recorded for workflow execution {EXECUTION_TEXT}",
        f"Invalid phase change from {stored} to {event} for workflow execution {EXECUTION_TEXT}",
        f"Invalid phase change from aborting to {event} for workflow execution {EXECUTION_TEXT}",
        f"Cannot go from {stored} to {event} for workflow execution {EXECUTION_TEXT}",
    )
    after = memory.rows.executions[EXECUTION_KEY]
    assert after.closure.phase == WorkflowExecution.Phase.Value(event if cell == "ok" else stored)
    assert list(changes.executions) == ([EXECUTION_KEY] if cell == "ok" else [])
    assert cell == "ok" or after == before


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("stored", "event", "cell"), list(cells(NODE)))
def test_a_node_event_has_the_verdict_of_the_table(stored: str, event: str, cell: str, together: bool) -> None:
    first: list[Event] = [] if stored == "(none)" else [node_event(stored)]
    memory = Memory()
    error = fold_last(memory, first, node_event(event), together=together)
    assert_verdict(
        error,
        cell,
        event,
        f"This phase was already recorded {event} for {NODE_TEXT}",
        f"Invalid phase change from {stored} to {event} for node execution {NODE_TEXT}",
    )
    after = memory.rows.nodes[NODE_KEY]
    assert after.closure.phase == NodeExecution.Phase.Value(event if cell == "ok" else stored)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("version", [STORED_VERSION - 1, STORED_VERSION, STORED_VERSION + 1])
@pytest.mark.parametrize(("stored", "event", "cell"), list(cells(TASK)))
def test_a_task_event_has_the_verdict_of_the_table(
    stored: str, event: str, cell: str, version: int, together: bool
) -> None:
    newer = version > STORED_VERSION
    outcome = {"v": "ok" if newer else "AE", "t": "T" if newer else "AE"}.get(cell, cell)
    first: list[Event] = [node_event("RUNNING")]
    if stored != "(none)":
        first.append(task_event(stored, version=STORED_VERSION))
    memory = Memory()
    error = fold_last(memory, first, task_event(event, version=version), together=together)
    assert_verdict(
        error,
        outcome,
        event,
        f"have already recorded task execution phase {event} (version: {version}) for {TASK_TEXT}",
        f"Invalid phase change from {stored} to {event} for task execution {TASK_TEXT}",
    )
    after = memory.rows.tasks[TASK_KEY]
    assert after.closure.phase == TaskExecution.Phase.Value(event if outcome == "ok" else stored)
    assert after.phase_version == (version if outcome == "ok" else STORED_VERSION)


def fold_last(memory: Memory, first: list[Event], event: Event, *, together: bool) -> ServiceError | None:
    """Fold `first`, which is applied, and then `event`, in one batch or in two, and return the verdict of `event`."""
    if together:
        *before, verdict = memory.take([*first, event]).outcomes
    else:
        before = memory.take(first).outcomes if first else []
        (verdict,) = memory.take([event]).outcomes
    assert before == [None] * len(first)
    return verdict
