"""Random histories of events: batches of any size have the effects of the model, which applies single events."""

from collections.abc import Sequence
from random import Random

import pytest
from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.phases import NODE_TERMINAL, TASK_TERMINAL, WORKFLOW_TERMINAL
from services.events.rules.checks import check_node_event, check_task_event, check_workflow_event
from services.executions.events import row_cache
from services.executions.rules.events.batch import read_event
from services.executions.rules.events.lane_cursor import LaneCursor
from services.executions.rules.events.state import ExecutionKey, ExecutionState, NodeKey, TaskKey
from services.kit.errors import InvalidArgument, ServiceError
from services.kit.protobuf.readable import REQUEST_RULE, UnreadableValue
from tests.support.event_histories import Request, any_request
from tests.support.event_makers import INLINE, LAYOUT, batched, node_event, task_event, workflow_event
from tests.support.event_memory import Memory, Replica, verdict_of
from tests.support.event_model import Model
from tests.support.event_model_checks import OK, Verdict
from tests.support.event_values import MAX_OUTPUT_BYTES
from tests.support.plain import Plain, plain

ABORTING = ExecutionClosure(phase="ABORTING", abort_metadata={"cause": "enough", "principal": "me"})
SPEC = ExecutionSpec(metadata={"principal": "me"}).SerializeToString()
# One without a cluster, one with, one that a user is aborting. "gone" does not exist.
STORED = [
    ExecutionState(ExecutionKey("p", "d", "e0"), "", ExecutionClosure(), SPEC),
    ExecutionState(ExecutionKey("p", "d", "e1"), "c1", ExecutionClosure(), SPEC),
    ExecutionState(ExecutionKey("p", "d", "e2"), "", ABORTING, SPEC),
]
NAMES = ["e0", "e0", "e0", "e0", "e0", "e1", "e1", "e2", "gone"]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return any_request(draw(st.randoms(use_true_random=False)), NAMES)


HISTORIES = st.lists(requests(), min_size=12, max_size=60)
CUTS = st.lists(st.integers(1, 7), max_size=12)


def new_memory(*, inline: bool = False) -> Memory:
    return Memory(executions=STORED, layout=INLINE if inline else LAYOUT)


def new_model(*, inline: bool = False) -> Model:
    model = Model(MAX_OUTPUT_BYTES, inline=inline)
    for state in STORED:
        spec = plain(ExecutionSpec.FromString(state.spec))
        model.create("/".join(state.key), state.cluster, plain(state.closure), spec)
    return model


def check(request: Request) -> None:
    try:
        REQUEST_RULE.check(request)
    except UnreadableValue as unreadable:
        raise InvalidArgument(unreadable.fault) from unreadable
    if isinstance(request, WorkflowExecutionEventRequest):
        check_workflow_event(request, MAX_OUTPUT_BYTES)
    elif isinstance(request, NodeExecutionEventRequest):
        check_node_event(request, MAX_OUTPUT_BYTES)
    else:
        check_task_event(request, MAX_OUTPUT_BYTES)


def take(memory: Memory, requests: Sequence[Request]) -> list[Verdict]:
    """Send `requests` as one batch, without those that the checks of the events service refuse."""
    verdicts: dict[int, Verdict] = {}
    accepted = {}
    for position, request in enumerate(requests):
        try:
            check(request)
        except ServiceError as error:
            verdicts[position] = verdict_of(error)
        else:
            accepted[position] = read_event(batched(request.event))
    if accepted:
        errors = memory.take(list(accepted.values())).outcomes
        verdicts |= dict(zip(accepted, map(verdict_of, errors), strict=True))
    return [verdicts[position] for position in range(len(requests))]


def take_in_batches(memory: Memory, requests: Sequence[Request], sizes: Sequence[int]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for size in [*sizes, len(requests)]:
        verdicts += take(memory, requests[len(verdicts) : len(verdicts) + size])
    return verdicts


def assert_same(memory: Memory, model: Model) -> None:
    assert memory.executions() == model.executions
    assert memory.nodes() == model.nodes
    assert memory.tasks() == model.tasks
    assert memory.data() == model.objects
    assert memory.rows.counts == memory.recounted()


def all_state(memory: Memory) -> Plain:
    return {
        "executions": memory.executions(),
        "nodes": memory.nodes(),
        "tasks": memory.tasks(),
        "objects": dict(memory.objects),
        "counts": memory.rows.counts,
    }


@settings(max_examples=150)
@given(HISTORIES, CUTS, st.booleans())
def test_batches_have_the_effects_of_single_events(history: list[Request], sizes: list[int], inline: bool) -> None:
    memory, model = new_memory(inline=inline), new_model(inline=inline)
    verdicts = take_in_batches(memory, history, sizes)
    assert verdicts == [model.take(request) for request in history]
    assert_same(memory, model)


@given(HISTORIES, CUTS, CUTS)
def test_the_sizes_of_batches_make_no_difference(history: list[Request], sizes: list[int], others: list[int]) -> None:
    one, other, single = new_memory(), new_memory(), new_memory()
    verdicts = take_in_batches(one, history, sizes)
    assert verdicts == take_in_batches(other, history, others)
    assert verdicts == take_in_batches(single, history, [1] * len(history))
    assert all_state(one) == all_state(other) == all_state(single)


@pytest.mark.parametrize("most_rows", [1, 2])
def test_the_row_caches_of_replicas_make_no_difference(monkeypatch: pytest.MonkeyPatch, most_rows: int) -> None:
    """Two replicas take turns; each execution has a lane, and each row cache is tiny."""
    monkeypatch.setattr(row_cache, "MOST_ROWS", most_rows)
    for seed in range(200):
        pick = Random(seed)  # noqa: S311  # the same histories at every run
        requests = [request for request in (any_request(pick, NAMES) for _ in range(60)) if passes_checks(request)]
        store, model = new_memory(), new_model()
        replicas, cursors = (Replica(store), Replica(store)), dict[str, LaneCursor]()
        while requests:
            batches: dict[str, list[Request]] = {}
            for request in requests[: pick.randrange(1, 8)]:
                batches.setdefault(execution_of(request), []).append(requests.pop(0))
            for lane, batch in batches.items():
                events = [read_event(batched(request.event)) for request in batch]
                replica = replicas[pick.choice((0, 0, 0, 1))]
                verdicts = list(map(verdict_of, replica.take(lane, events, cursors).outcomes))
                assert verdicts == [model.take(request) for request in batch], seed
        assert_same(store, model)


def passes_checks(request: Request) -> bool:
    try:
        check(request)
    except ServiceError:
        return False
    return True


def execution_of(request: Request) -> str:
    if isinstance(request, WorkflowExecutionEventRequest):
        return request.event.execution_id.name
    if isinstance(request, NodeExecutionEventRequest):
        return request.event.id.execution_id.name
    return request.event.parent_node_execution_id.execution_id.name


@given(HISTORIES, CUTS)
def test_an_event_sent_twice_is_applied_once(history: list[Request], sizes: list[int]) -> None:
    """An engine repeats an event without response. QUEUED and late phases of executions are OK again."""
    once, twice = new_memory(), new_memory()
    verdicts = take_in_batches(once, history, sizes)
    doubled = take_in_batches(twice, [request for request in history for _ in range(2)], sizes)
    assert doubled[::2] == verdicts
    for request, first, second in zip(history, verdicts, doubled[1::2], strict=True):
        if first == OK and not (isinstance(request, WorkflowExecutionEventRequest) and second == OK):
            assert second == ("ALREADY_EXISTS", {})
        elif first != OK:
            assert second == first
    assert all_state(once) == all_state(twice)


@given(HISTORIES, CUTS)
def test_a_terminal_state_accepts_no_event(history: list[Request], sizes: list[int]) -> None:
    """Every accepted event that is repeated after the end is ALREADY_EXISTS or a typed FAILED_PRECONDITION."""
    memory = new_memory()
    verdicts = take_in_batches(memory, history, sizes)
    taken = [request for request, verdict in zip(history, verdicts, strict=True) if verdict == OK]
    last = ends(memory)
    assert take(memory, last) == [OK] * len(last)
    before = all_state(memory)
    for code, reason in take_in_batches(memory, taken + last, sizes):
        assert code == "ALREADY_EXISTS" or (code == "FAILED_PRECONDITION" and reason)
    assert all_state(memory) == before


def ends(memory: Memory) -> list[Request]:
    """Return a terminal event for everything that has not ended."""
    rows = memory.rows
    executions = [state.key for state in rows.executions.values() if state.closure.phase not in WORKFLOW_TERMINAL]
    nodes = [state.key for state in rows.nodes.values() if state.closure.phase not in NODE_TERMINAL]
    tasks = [state.key for state in rows.tasks.values() if state.closure.phase not in TASK_TERMINAL]
    return [
        *(WorkflowExecutionEventRequest(event=workflow_event("ABORTED", name=key.name)) for key in executions),
        *(NodeExecutionEventRequest(event=_end_of_node(key)) for key in nodes),
        *(TaskExecutionEventRequest(event=_end_of_task(key)) for key in tasks),
    ]


def _end_of_node(key: NodeKey) -> NodeExecutionEvent:
    return node_event("SKIPPED", node=key.node_id, name=key.execution.name)


def _end_of_task(key: TaskKey) -> TaskExecutionEvent:
    event = task_event("SUCCEEDED", node=key.node.node_id, name=key.node.execution.name)
    event.task_id.name, event.retry_attempt = key.name, key.retry_attempt
    return event
