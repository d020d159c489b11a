"""A runner in memory for the local engine's state machine: tasks are functions, events are folded as by executions."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeAlias

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.catalog_pb2 import CatalogMetadata
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent

from deploy.sandbox.engine.graph.inputs import (
    Begin,
    CacheLookedUp,
    CacheStored,
    ChildFinished,
    ChildStarted,
    Done,
    Input,
    LaunchPlansFetched,
    RecoveredLookedUp,
    SignalArrived,
    TaskFinished,
    TaskStarted,
    TimePassed,
)
from deploy.sandbox.engine.graph.interface import (
    Action,
    CacheKey,
    CancelTask,
    Emit,
    Event,
    FetchLaunchPlans,
    Finish,
    LookUpCache,
    LookUpRecovered,
    ReleaseCache,
    Run,
    StartChild,
    StartTask,
    StopChild,
    Store,
    StoreCache,
    TaskKey,
    WaitForSignal,
)
from deploy.sandbox.engine.graph.journal import line, read_line, resume
from services.executions.rules.events.state import ExecutionState, execution_key
from services.kit.errors import Code
from tests.support.event_memory import Memory
from tests.support.literals import python_values, to_literals


@dataclass(frozen=True)
class Failure:
    """The result of a task that fails."""

    recoverable: bool = False
    kind: ExecutionError.ErrorKind = ExecutionError.USER
    code: str = "USER:Boom"
    message: str = "boom"


HANGS = object()
"""The result of a task that never ends."""

Outcome: TypeAlias = Mapping[str, Any] | DynamicJobSpec | Failure | object
TaskFunction: TypeAlias = Callable[[StartTask], Outcome]


def plain(function: Callable[..., Mapping[str, Any]]) -> TaskFunction:
    """Return the task that calls `function` with plain values."""
    return lambda start: function(**python_values(start.inputs))


def plus_one(start: StartTask) -> Mapping[str, Any]:
    """Return the input `a` of a task plus one."""
    return {"o0": start.inputs.literals["a"].scalar.primitive.integer + 1}


@dataclass
class World:
    """What survives the death of the engine: objects, the control plane, the cache, ended processes."""

    functions: Mapping[str, TaskFunction]
    children: Mapping[str, ChildFinished] = field(default_factory=dict)
    signals: Mapping[str, Literal] = field(default_factory=dict)
    recovered: Mapping[str, RecoveredLookedUp] = field(default_factory=dict)
    launch_plans: Sequence[LaunchPlan] = ()
    cache: dict[bytes, LiteralMap] = field(default_factory=dict)
    objects: dict[str, LiteralMap] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    started: list[StartTask] = field(default_factory=list)
    ended: dict[TaskKey, TaskFinished] = field(default_factory=dict)
    cancelled: list[TaskKey] = field(default_factory=list)
    stopped: list[StopChild] = field(default_factory=list)
    released: list[ReleaseCache] = field(default_factory=list)
    journal: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    repeated: int = 0
    """Events that the control plane had already."""


class Player:
    """Plays one life of the engine over a `World`.

    Args:
        run: The execution.
        world: What is around it. A journal in it is resumed.
        pick: Chooses what happens next; without it, everything happens in its order.
        again: Whether the execution has run before, so that the control plane may refuse what is sent again.
    """

    def __init__(self, run: Run, world: World, pick: Random | None = None, *, again: bool = False) -> None:
        self.world = world
        self._again = again
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self._pick = pick
        self._events: deque[Emit | StartChild | WaitForSignal | Finish] = deque()
        self._chains: list[deque[Input]] = []
        self._sent: Done | None = None
        self._finish: Finish | None = None
        entries = [read_line(text) for text in world.journal]
        if entries:
            self.at = entries[-1][0]
        self.execution, first = resume(run, entries)
        self._begin(first)
        if not entries:
            self._chains.append(deque([Begin()]))

    def play(self, most_steps: int = 100_000) -> Finish | None:
        """Go on to the end; return None if `most_steps` were not enough."""
        for _ in range(most_steps):
            if self._finish is not None:
                self._drain()
                return self._finish
            self._step()
        return None

    def _drain(self) -> None:
        """Pass in what is still on its way when the execution has ended."""
        while self._chains:
            self.feed(self._chains.pop(0).popleft())

    def play_until(self, *reported: str) -> None:
        """Go on until all these events, as `label` writes them, were sent."""
        while not set(reported) <= set(labels(self.world.events)):
            assert self.play(1) is None, "the execution ended before"

    def feed(self, received: Input) -> None:
        """Pass an input to the state machine."""
        self.at += timedelta(milliseconds=1)
        self.world.journal.append(line(received, self.at))
        self._begin(self.execution.handle(received, self.at))

    def _step(self) -> None:
        if self._sent is not None:
            # The next event is sent when this one is known to be; the engine may die in between.
            sent, self._sent = self._sent, None
            self.feed(sent)
            return
        choices = len(self._chains) + bool(self._events)
        if not choices:
            wake_at = self.execution.wake_at
            assert wake_at is not None, "the execution waits for nothing"
            self.at = max(self.at, wake_at)
            self.feed(TimePassed())
            return
        first = len(self._chains) if self._events else 0
        chosen = self._pick.randrange(choices) if self._pick else first
        if chosen == len(self._chains):
            self._send(self._events.popleft())
            return
        chain = self._chains[chosen]
        received = chain.popleft()
        if not chain:
            del self._chains[chosen]
        self.feed(received)

    def _begin(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Emit | StartChild | WaitForSignal | Finish):
                self._events.append(action)
            elif isinstance(action, Store):
                self.world.objects[action.uri] = action.values
                self._chains.append(deque([Done(action.number)]))
            elif isinstance(action, StartTask):
                self._chains.append(deque(self._run(action)))
            elif isinstance(action, CancelTask):
                self.world.cancelled.append(action.key)
            elif isinstance(action, StopChild):
                self.world.stopped.append(action)
                self._chains.append(deque([Done(action.number)]))
            elif isinstance(action, ReleaseCache):
                self.world.released.append(action)
            else:
                self._chains.append(deque([self._result(action)]))

    def _send(self, action: Emit | StartChild | WaitForSignal | Finish) -> None:
        """Send an event, or carry out what needed the events before it."""
        if isinstance(action, Emit):
            self._record(action.event)
            self._sent = Done(action.number)
        elif isinstance(action, StartChild):
            name = action.launch_plan.name
            ended = self.world.children[name]
            outcome = ChildFinished(action.key, ended.phase, ended.outputs, ended.error)
            chain: list[Input] = [ChildStarted(action.key), outcome]
            self._chains.append(deque(chain))
        elif isinstance(action, WaitForSignal):
            if action.signal.signal_id in self.world.signals:
                value = self.world.signals[action.signal.signal_id]
                self._chains.append(deque([SignalArrived(action.node_id, value)]))
        else:
            self._finish = action

    def _record(self, event: Event) -> None:
        """Fold an event; every one must be accepted, except repeated ones."""
        self._with_child(event)
        outcome = self.world.memory.take([event]).outcomes[0]
        tolerated = {Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION} if self._again else {Code.ALREADY_EXISTS}
        if outcome is not None and outcome.code in tolerated:
            self.world.repeated += 1
        else:
            assert outcome is None, (outcome, event)
        self.world.events.append(event)

    def _with_child(self, event: Event) -> None:
        """Let the control plane have the child that an event names."""
        if isinstance(event, NodeExecutionEvent) and event.workflow_node_metadata.HasField("execution_id"):
            key = execution_key(event.workflow_node_metadata.execution_id)
            self.world.memory.rows.executions.setdefault(key, ExecutionState(key, "", ExecutionClosure()))

    def _run(self, start: StartTask) -> list[Input]:
        """Run a task, unless an earlier life of the engine has its result."""
        if start.key not in self.world.ended:
            self.world.started.append(start)
            outcome = self.world.functions[start.template.id.name](start)
            if outcome is HANGS:
                return [TaskStarted(start.key)]
            self.world.ended[start.key] = _finished(start.key, outcome)
        return [TaskStarted(start.key), self.world.ended[start.key]]

    def _result(self, action: Action) -> Input:
        if isinstance(action, LookUpCache):
            found = self.world.cache.get(_cache_key(action.cache_key))
            return CacheLookedUp(action.key, found, CatalogMetadata() if found is not None else None)
        if isinstance(action, StoreCache):
            self.world.cache[_cache_key(action.cache_key)] = action.outputs
            return CacheStored(action.key, CatalogMetadata())
        if isinstance(action, LookUpRecovered):
            return self.world.recovered.get(action.node_id, RecoveredLookedUp(action.node_id))
        assert isinstance(action, FetchLaunchPlans)
        return LaunchPlansFetched(action.node_id, self.world.launch_plans)


def _finished(key: TaskKey, outcome: Outcome) -> TaskFinished:
    if isinstance(outcome, Failure):
        error = ExecutionError(code=outcome.code, message=outcome.message, kind=outcome.kind)
        return TaskFinished(key, error=error, recoverable=outcome.recoverable)
    if isinstance(outcome, DynamicJobSpec):
        return TaskFinished(key, futures=outcome)
    assert isinstance(outcome, Mapping)
    return TaskFinished(key, outputs=to_literals(outcome))


def _cache_key(key: CacheKey) -> bytes:
    task = type(key.task)()
    task.CopyFrom(key.task)
    task.version = ""
    parts = (task, key.interface, key.inputs)
    return key.cache_version.encode() + b"".join(each.SerializeToString(deterministic=True) for each in parts)


def played(run: Run, functions: Mapping[str, TaskFunction] | None = None, **world: Any) -> tuple[World, Finish]:
    """Play an execution to its end; tasks without a function add one."""
    names = {each.template.id.name: plus_one for each in run.closure.tasks}
    around = World({**names, **(functions or {})}, **world)
    finish = Player(run, around).play()
    assert finish is not None
    return around, finish


def labels(events: Iterable[Event]) -> list[str]:
    """Return short texts of events: `RUNNING`, `n0 QUEUED`, `n0/0 RUNNING v0`."""
    return [label(event) for event in events]


def label(event: Event) -> str:
    """Return the short text of an event."""
    if isinstance(event, WorkflowExecutionEvent):
        return WorkflowExecution.Phase.Name(event.phase)
    if isinstance(event, TaskExecutionEvent):
        phase = TaskExecution.Phase.Name(event.phase)
        return f"{event.parent_node_execution_id.node_id}/{event.retry_attempt} {phase} v{event.phase_version}"
    return f"{event.id.node_id} {NodeExecution.Phase.Name(event.phase)}"
