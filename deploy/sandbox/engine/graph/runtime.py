"""What all parts of one execution share: actions and who waits for their results, time, and limits."""

import heapq
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from deploy.sandbox.engine.graph.interface import (
    Action,
    CancelTask,
    Emit,
    Event,
    Run,
    StartChild,
    StartTask,
    StopChild,
    Store,
)

if TYPE_CHECKING:
    from deploy.sandbox.engine.graph.node import Node

_ABANDONED: Final = "the engine failed to run the parent execution"

Route: TypeAlias = tuple[type, Hashable]
"""The type of an action and the key that its results have."""


@dataclass(order=True)
class Timer:
    """A function that is called when a time has come."""

    at: datetime
    serial: int
    call: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Do not call the function."""
        self.cancelled = True


class Slots:
    """The maximum parallelism of an execution: task and launch plan nodes that run at the same time.

    Nodes beyond it wait in their order. An array node counts, but does not wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: set[str] = set()
        self._waiting: dict[str, Callable[[], None]] = {}

    def acquire(self, node_id: str, start: Callable[[], None]) -> None:
        """Call `start` now, or when a slot is free."""
        if self._most and len(self._held) >= self._most:
            self._waiting[node_id] = start
        else:
            self._held.add(node_id)
            start()

    def take(self, node_id: str) -> None:
        """Count a node without waiting."""
        self._held.add(node_id)

    def release(self, node_id: str) -> None:
        """Free the slot of a node, or its place among those that wait; start the next ones."""
        self._waiting.pop(node_id, None)
        self._held.discard(node_id)
        while self._waiting and len(self._held) < self._most:
            following = next(iter(self._waiting))
            self.acquire(following, self._waiting.pop(following))


class Runtime:
    """The run, the time of the current input, its actions, and all expected results."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.at = datetime.min.replace(tzinfo=UTC)
        self.nodes: dict[str, Node] = {}
        """The nodes that have reported something, by unique id."""
        self.slots = Slots(run.config.max_parallelism)
        self._actions: list[Action] = []
        self._queue: deque[Callable[[], None]] = deque()
        self._numbers = count(1)
        self._serials = count()
        self._unfinished: dict[int, Action] = {}
        self._numbered: dict[int, int] = {}
        self._handlers: dict[Route, tuple[int, Callable[[Any], None]]] = {}
        self._timers: list[Timer] = []

    def emit(self, event: Event) -> None:
        """Send an event."""
        number = next(self._numbers)
        self._numbered[number] = self._keep(Emit(number, event))

    def store(self, uri: str, values: LiteralMap) -> None:
        """Store values."""
        number = next(self._numbers)
        self._numbered[number] = self._keep(Store(number, uri, values))

    def stop_child(self, child: WorkflowExecutionIdentifier, cause: str) -> None:
        """Terminate a child execution."""
        number = next(self._numbers)
        self._numbered[number] = self._keep(StopChild(number, child, cause))

    def done(self, number: int) -> None:
        """Note that a numbered action is done."""
        serial = self._numbered.pop(number, None)
        if serial is not None:
            del self._unfinished[serial]

    def do(self, action: Action) -> None:
        """Carry out an action that has no result and need not be done again after a restart."""
        self._actions.append(action)

    def end_with(self, action: Action) -> None:
        """Carry out the last action, again after a restart."""
        self._keep(action)

    def expect(self, action: Action, key: Hashable, handle: Callable[[Any], None]) -> None:
        """Carry out an action; `handle` is called with its results until `forget`."""
        self._handlers[type(action), key] = (self._keep(action), handle)

    def forget(self, action: type, key: Hashable) -> bool:
        """Stop expecting results of an action; return whether they were expected."""
        found = self._handlers.pop((action, key), None)
        if found is not None:
            del self._unfinished[found[0]]
        return found is not None

    def abandon(self) -> None:
        """Cancel tasks, terminate children and expect nothing more, whatever state the nodes are in."""
        expected = [self._unfinished.pop(serial) for serial, _ in self._handlers.values()]
        self._handlers.clear()
        self._queue.clear()
        self._timers.clear()
        for action in expected:
            if isinstance(action, StartTask):
                self.do(CancelTask(action.key))
            elif isinstance(action, StartChild):
                self.stop_child(action.child, _ABANDONED)

    def route(self, action: type, key: Hashable, result: Any) -> None:
        """Pass a result to what expects it; others are ignored."""
        found = self._handlers.get((action, key))
        if found is not None:
            found[1](result)

    def _keep(self, action: Action) -> int:
        serial = next(self._serials)
        self._unfinished[serial] = action
        self._actions.append(action)
        return serial

    def later(self, call: Callable[[], None]) -> None:
        """Call a function after the current one: chains of nodes may be longer than the stack is deep."""
        self._queue.append(call)

    def call_at(self, at: datetime, call: Callable[[], None]) -> Timer:
        """Call a function when `at` has come."""
        timer = Timer(at, next(self._serials), call)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def wake_at(self) -> datetime | None:
        """The time of the next timer."""
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0].at if self._timers else None

    def pass_time(self) -> None:
        """Call the functions of all timers that are due."""
        while (due := self.wake_at) is not None and due <= self.at:
            heapq.heappop(self._timers).call()

    def take_actions(self) -> list[Action]:
        """Call what was put off; return the actions since the last call."""
        while self._queue:
            self._queue.popleft()()
        actions, self._actions = self._actions, []
        return actions

    def outstanding(self) -> list[Action]:
        """Return the actions that are not done or have no final result yet, in their order."""
        return list(self._unfinished.values())
