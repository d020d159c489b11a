"""Histories of events at random: whatever the batches, the rules do what the page says, one event after the other."""

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
from services.executions.events import row_cache as memory_rules
from services.executions.rules.events.batch import read_event
from services.executions.rules.events.state import ExecutionKey, ExecutionState, NodeKey, TaskKey
from services.kit.errors import InvalidArgument, ServiceError
from services.kit.protobuf.readable import WRITTEN, Unreadable
from tests.support.event_histories import Request, any_request
from tests.support.event_makers import INLINE, STORAGE, batched, node_event, task_event, workflow_event
from tests.support.event_memory import Memory, Replica, answer
from tests.support.event_model import Model
from tests.support.event_model_checks import OK, Answer
from tests.support.event_values import MAX_OUTPUT_BYTES
from tests.support.plain import Plain, plain

ABORTING = ExecutionClosure(phase="ABORTING", abort_metadata={"cause": "enough", "principal": "me"})
SPEC = ExecutionSpec(metadata={"principal": "me"}).SerializeToString()
# Of a cluster without a name, of one with, one that a user is aborting. "gone" was never made.
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
    return Memory(executions=STORED, storage=INLINE if inline else STORAGE)


def new_model(*, inline: bool = False) -> Model:
    model = Model(MAX_OUTPUT_BYTES, inline=inline)
    for state in STORED:
        spec = plain(ExecutionSpec.FromString(state.spec))
        model.create("/".join(state.key), state.cluster, plain(state.closure), spec)
    return model


def check(request: Request) -> None:
    try:
        WRITTEN.check(request)
    except Unreadable as unreadable:
        raise InvalidArgument(unreadable.fault) from unreadable
    if isinstance(request, WorkflowExecutionEventRequest):
        check_workflow_event(request, MAX_OUTPUT_BYTES)
    elif isinstance(request, NodeExecutionEventRequest):
        check_node_event(request, MAX_OUTPUT_BYTES)
    else:
        check_task_event(request, MAX_OUTPUT_BYTES)


def take(memory: Memory, requests: Sequence[Request]) -> list[Answer]:
    """Send `requests` as one batch: what is refused before it travels is not in it."""
    answers: dict[int, Answer] = {}
    travelling = {}
    for place, request in enumerate(requests):
        try:
            check(request)
        except ServiceError as error:
            answers[place] = answer(error)
        else:
            travelling[place] = read_event(batched(request.event))
    if travelling:
        verdicts = memory.take(list(travelling.values())).verdicts
        answers |= dict(zip(travelling, map(answer, verdicts), strict=True))
    return [answers[place] for place in range(len(requests))]


def take_in_batches(memory: Memory, requests: Sequence[Request], sizes: Sequence[int]) -> list[Answer]:
    answers: list[Answer] = []
    for size in [*sizes, len(requests)]:
        answers += take(memory, requests[len(answers) : len(answers) + size])
    return answers


def assert_same(memory: Memory, model: Model) -> None:
    assert memory.executions() == model.executions
    assert memory.nodes() == model.nodes
    assert memory.tasks() == model.tasks
    assert memory.data() == model.objects
    assert memory.rows.counts == memory.recounted()


def everything(memory: Memory) -> Plain:
    return {
        "executions": memory.executions(),
        "nodes": memory.nodes(),
        "tasks": memory.tasks(),
        "objects": dict(memory.objects),
        "counts": memory.rows.counts,
    }


@settings(max_examples=150)
@given(HISTORIES, CUTS, st.booleans())
def test_batches_do_what_the_page_says_of_one_event_after_the_other(
    history: list[Request], sizes: list[int], inline: bool
) -> None:
    memory, model = new_memory(inline=inline), new_model(inline=inline)
    answers = take_in_batches(memory, history, sizes)
    assert answers == [model.take(request) for request in history]
    assert_same(memory, model)


@given(HISTORIES, CUTS, CUTS)
def test_where_a_history_is_cut_makes_no_difference(
    history: list[Request], sizes: list[int], others: list[int]
) -> None:
    one, other, single = new_memory(), new_memory(), new_memory()
    answers = take_in_batches(one, history, sizes)
    assert answers == take_in_batches(other, history, others)
    assert answers == take_in_batches(single, history, [1] * len(history))
    assert everything(one) == everything(other) == everything(single)


@pytest.mark.parametrize("most_rows", [1, 2])
def test_what_replicas_remember_makes_no_difference(monkeypatch: pytest.MonkeyPatch, most_rows: int) -> None:
    """Two replicas take turns; each execution has a lane, and each replica remembers hardly anything."""
    monkeypatch.setattr(memory_rules, "MOST_ROWS", most_rows)
    for seed in range(200):
        pick = Random(seed)  # noqa: S311  # the same histories at every run
        requests = [request for request in (any_request(pick, NAMES) for _ in range(60)) if travels(request)]
        store, model = new_memory(), new_model()
        replicas, left = (Replica(store), Replica(store)), dict[str, int]()
        while requests:
            batches: dict[str, list[Request]] = {}
            for request in requests[: pick.randrange(1, 8)]:
                batches.setdefault(execution_of(request), []).append(requests.pop(0))
            for lane, batch in batches.items():
                events = [read_event(batched(request.event)) for request in batch]
                replica = replicas[pick.choice((0, 0, 0, 1))]
                answers = list(map(answer, replica.take(lane, events, left).verdicts))
                assert answers == [model.take(request) for request in batch], seed
        assert_same(store, model)


def travels(request: Request) -> bool:
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
def test_an_event_sent_twice_counts_once(history: list[Request], sizes: list[int]) -> None:
    """As the engine does when it got no answer. QUEUED and late phases of executions are OK again, without effect."""
    once, twice = new_memory(), new_memory()
    answers = take_in_batches(once, history, sizes)
    doubled = take_in_batches(twice, [request for request in history for _ in range(2)], sizes)
    assert doubled[::2] == answers
    for request, first, second in zip(history, answers, doubled[1::2], strict=True):
        if first == OK and not (isinstance(request, WorkflowExecutionEventRequest) and second == OK):
            assert second == ("ALREADY_EXISTS", {})
        elif first != OK:
            assert second == first
    assert everything(once) == everything(twice)


@given(HISTORIES, CUTS)
def test_what_is_over_takes_nothing_more(history: list[Request], sizes: list[int]) -> None:
    """Every event that was taken comes again after the end: it is recorded already or told, typed, that it is over."""
    memory = new_memory()
    answers = take_in_batches(memory, history, sizes)
    taken = [request for request, told in zip(history, answers, strict=True) if told == OK]
    last = ends(memory)
    assert take(memory, last) == [OK] * len(last)
    before = everything(memory)
    for code, reason in take_in_batches(memory, taken + last, sizes):
        assert code == "ALREADY_EXISTS" or (code == "FAILED_PRECONDITION" and reason)
    assert everything(memory) == before


def ends(memory: Memory) -> list[Request]:
    """The last event of everything that is not over."""
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
