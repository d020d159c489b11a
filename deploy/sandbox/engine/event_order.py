"""The order in which the events of one run are sent: as many at a time as what they depend on allows.

An event follows those of its own node, and those of the node that contains it, which must exist first. An event of the
workflow follows all before it, and precedes all after it. Events of other nodes are independent, so they are sent at
the same time: the control plane applies those that arrive together in one transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from flyteidl.event.event_pb2 import NodeExecutionEvent, WorkflowExecutionEvent

from deploy.sandbox.engine.graph.interface import Emit, Event

# Far below the number of waiting events from which on the control plane refuses those of an execution.
_MOST_AT_A_TIME = 32


class EventOrder:
    """The events of one run that are not accepted yet.

    Args:
        deliver: sends an event until it is accepted, or refused for good.
    """

    def __init__(self, deliver: Callable[[Emit], Awaitable[None]]) -> None:
        self._deliver = deliver
        self._at_a_time = asyncio.Semaphore(_MOST_AT_A_TIME)
        self._last: dict[str, asyncio.Task[None]] = {}
        self._workflow: asyncio.Task[None] | None = None
        self._pending: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def submit(self, emit: Emit) -> None:
        """Send an event once those that it follows are accepted."""
        before = self._before(emit.event)
        task = asyncio.create_task(self._send(emit, before))
        self._pending.add(task)
        if isinstance(emit.event, WorkflowExecutionEvent):
            self._workflow = task
            self._last.clear()
        else:
            self._last[_node(emit.event)] = task
        task.add_done_callback(self._ended)

    def accepted(self) -> Coroutine[None, None, None]:
        """Return what waits until the events submitted so far are accepted, or refused for good."""
        return _all(set(self._pending))

    async def failure(self) -> None:
        """Wait for an error of `deliver`, and raise it."""
        await self._failure

    def cancel(self) -> None:
        """Send no further event."""
        for task in self._pending:
            task.cancel()
        self._failure.cancel()

    def _before(self, event: Event) -> list[asyncio.Task[None]]:
        if isinstance(event, WorkflowExecutionEvent):
            return list(self._pending)
        names = [_node(event)]
        if isinstance(event, NodeExecutionEvent) and event.parent_node_metadata.node_id:
            names.append(event.parent_node_metadata.node_id)
        found = [self._workflow, *(self._last.get(name) for name in names)]
        return [task for task in found if task is not None and not task.done()]

    async def _send(self, emit: Emit, before: list[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)
        async with self._at_a_time:
            await self._deliver(emit)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._pending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._failure.done():
            self._failure.set_exception(error)


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


def _node(event: Event) -> str:
    """Return the unique id of the node that an event of a node or of a task is about."""
    if isinstance(event, NodeExecutionEvent):
        return event.id.node_id
    if isinstance(event, WorkflowExecutionEvent):
        return ""
    return event.parent_node_execution_id.node_id
