"""One run: carries out what its state machine asks for, and passes the results in.

Actions begin in their order. `Store` is done before a later one begins; events are sent in the order of `event_order`;
an action that needs what the events before it create waits until these are accepted.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flyteidl.core.execution_pb2 import WorkflowExecution

from deploy.sandbox.engine.effects import Effects
from deploy.sandbox.engine.event_order import EventOrder
from deploy.sandbox.engine.event_sender import EventSender, RunOver
from deploy.sandbox.engine.failures import failure_of, passes
from deploy.sandbox.engine.graph.inputs import (
    Abort,
    ChildFinished,
    ChildStarted,
    Done,
    FailRun,
    Input,
    TaskFinished,
    TaskStarted,
    TaskWaiting,
    TimePassed,
)
from deploy.sandbox.engine.graph.interface import (
    Action,
    CancelTask,
    Emit,
    FetchLaunchPlans,
    Finish,
    LookUpCache,
    LookUpRecovered,
    ReleaseCache,
    StartChild,
    StartTask,
    StopChild,
    Store,
    StoreCache,
    WaitForSignal,
)
from deploy.sandbox.engine.run_parts import Journal, Progress, StateMachine
from deploy.sandbox.engine.tasks.attempts import AttemptRunner, RunContext

log = logging.getLogger(__name__)

# The key of the work that terminates a child.
_STOP = "stop"

# Inputs of one run are handled for so long before other runs have their turn.
_TURN_SECONDS = 0.02

# Until an attempt begins again that a full disk or an object store that is away has stopped.
_AGAIN_SECONDS = 2.0

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class Run:
    """A run from its start, or its resumption, to its end.

    Args:
        machine: the state machine.
        journal: gets each input, with its time, before the machine does.
        first: actions to begin with.
        begun_anew: whether the run has begun before: then events were accepted that are sent again.
    """

    machine: StateMachine
    journal: Journal
    first: Sequence[Action]
    effects: Effects
    attempts: AttemptRunner
    context: RunContext
    progress: Progress
    begun_anew: bool = False
    _inputs: asyncio.Queue[Input] = field(default_factory=asyncio.Queue)
    _actions: asyncio.Queue[Action] = field(default_factory=asyncio.Queue)
    _working: dict[Hashable, asyncio.Task[None]] = field(default_factory=dict)
    _again: set[int] = field(default_factory=set)
    _events: EventOrder = field(init=False)
    _sender: EventSender = field(init=False)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: set[str] = field(default_factory=set)
    _creating: dict[str, asyncio.Future[ChildFinished | None]] = field(default_factory=dict)
    _interrupted: asyncio.Queue[BaseException] = field(default_factory=asyncio.Queue)
    _aborting: bool = False
    _at: datetime = _NEVER

    def put(self, value: Input) -> None:
        """Pass an input in."""
        self._inputs.put_nowait(value)

    def abort(self, cause: str) -> None:
        """Terminate the run."""
        self._aborting = True
        self._inputs.put_nowait(Abort(cause))

    async def run(self) -> None:
        """Run to the end; when cancelled, end the processes of the tasks."""
        self._again = {action.number for action in self.first if isinstance(action, Emit)}
        for action in self.first:
            self._actions.put_nowait(action)
        self._sender = EventSender(self.effects.control_plane.send, lambda: self._aborting)
        self._events = EventOrder(self._deliver)
        loops = [
            asyncio.create_task(each)
            for each in (
                *(self._take_inputs(), self._begin_actions()),
                *(self._events.failure(), self._over.wait(), self._interruption()),
            )
        ]
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except RunOver as over:
            log.warning("a run is given up: %s", over, extra=self._about)
            self.progress.ended_as = "ENDED"
        finally:
            self._events.cancel()
            pending = [*loops, *self._working.values()]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            self.journal.close()

    async def _interruption(self) -> None:
        """Wait for an error that passes, and raise it: the run goes on later, from its journal."""
        raise await self._interrupted.get()

    @property
    def _about(self) -> dict[str, str]:
        execution = self.context.execution
        return {"execution": f"{execution.project}/{execution.domain}/{execution.name}"}

    async def _take_inputs(self) -> None:
        """Pass inputs to the state machine, one after the other, and queue its actions."""
        yields_at = time.monotonic() + _TURN_SECONDS
        while True:
            value = await self._next_input()
            self._at = at = max(datetime.now(UTC), self._at)  # also when the clock was set back
            self.journal.append(value, at)
            for action in self.machine.handle(value, at):
                self._actions.put_nowait(action)
            if time.monotonic() > yields_at:
                await asyncio.sleep(0)  # a queue that has inputs does not suspend
                yields_at = time.monotonic() + _TURN_SECONDS

    async def _next_input(self) -> Input:
        wake_at = self.machine.wake_at
        try:
            async with asyncio.timeout(None if wake_at is None else (wake_at - datetime.now(UTC)).total_seconds()):
                return await self._inputs.get()
        except TimeoutError:
            return TimePassed()

    async def _begin_actions(self) -> None:
        while True:
            action = await self._actions.get()
            if isinstance(action, Store):
                await self._store(action)
            elif isinstance(action, Emit):
                self._events.submit(action)
            elif isinstance(action, CancelTask):
                self._cancel(("task", action.key))
            else:
                self._begin(action)

    async def _store(self, action: Store) -> None:
        try:
            await self.effects.store(action.uri, action.values)
        except Exception as error:  # noqa: BLE001 - it is logged, and fails the run
            self._fail(error)
        else:
            self._inputs.put_nowait(Done(action.number))

    def _fail(self, error: BaseException) -> None:
        """Fail the run, as what an action does outside of it is not possible; interrupt it after errors that pass."""
        if passes(error):
            self._interrupted.put_nowait(error)
            return
        log.error("a run cannot go on", exc_info=error, extra=self._about)
        self._inputs.put_nowait(FailRun(failure_of(error)))

    def _begin(self, action: Action) -> None:
        """Begin an action that goes on while later ones begin."""
        if isinstance(action, StartTask):
            self.progress.tasks_waiting += 1
            self._work(("task", action.key), self._run_task(action))
        elif isinstance(action, StartChild):
            self._work(("child", action.key), self._run_child(action, self._events.accepted()))
        elif isinstance(action, StopChild):
            self._stopped.add(action.child.name)
            self._work((_STOP, action.child.name), self._stop_child(action))
        elif isinstance(action, WaitForSignal):
            self._work(("signal", action.node_id), self._wait_for_signal(action, self._events.accepted()))
        elif isinstance(action, LookUpCache):
            self._work(("cache", action.key), self._report(self.effects.look_up_cache(action)))
        elif isinstance(action, StoreCache):
            self._work(("store", action.key), self._report(self.effects.store_cache(action)))
        elif isinstance(action, ReleaseCache):
            self._cancel(("cache", action.key))  # otherwise it might get the reservation later
            self.effects.release(action.cache_key, action.key)
        elif isinstance(action, LookUpRecovered):
            self._work(("recovered", action.node_id), self._report(self.effects.recovered(action)))
        elif isinstance(action, FetchLaunchPlans):
            self._work(("plans", action.node_id), self._report(self.effects.launch_plans(action)))
        elif isinstance(action, Finish):
            self._work(("finish",), self._finish(action, self._events.accepted()))

    def _work(self, key: Hashable, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working[key] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._working.get(key) is task:
                del self._working[key]
            if not task.cancelled() and (error := task.exception()) is not None:
                self._fail(error)

        task.add_done_callback(ended)

    def _cancel(self, key: Hashable) -> None:
        if key in self._working:
            self._working[key].cancel()

    async def _report(self, result: Coroutine[Any, Any, Input]) -> None:
        self._inputs.put_nowait(await result)

    async def _deliver(self, emit: Emit) -> None:
        reaction = await self._sender.deliver(emit.event, again=self.begun_anew or emit.number in self._again)
        self._inputs.put_nowait(Done(emit.number))
        if reaction is not None:
            self._inputs.put_nowait(reaction)

    async def _run_task(self, start: StartTask) -> None:
        is_running = False

        def report(value: TaskWaiting | TaskStarted) -> None:
            nonlocal is_running
            if isinstance(value, TaskStarted) and not is_running:
                is_running = True
                self.progress.tasks_waiting -= 1
                self.progress.tasks_running += 1
            self._inputs.put_nowait(value)

        try:
            finished = await self._finished(start, report)
        finally:
            if is_running:
                self.progress.tasks_running -= 1
            else:
                self.progress.tasks_waiting -= 1
        self.progress.tasks_ended += 1
        self._inputs.put_nowait(finished)

    async def _finished(self, start: StartTask, report: Callable[[TaskWaiting | TaskStarted], None]) -> TaskFinished:
        """Return the end of an attempt; begin it again after errors that pass: one that had ended is only read."""
        while True:
            try:
                return await self.attempts.run(self.context, start, report)
            except Exception as error:
                if not passes(error):
                    raise
                log.warning("an attempt begins again: %s", error, extra=self._about)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _run_child(self, start: StartChild, accepted: Coroutine[Any, Any, None]) -> None:
        await accepted
        name = start.child.name
        if name in self._stopped:
            return
        self._creating[name] = asyncio.ensure_future(self.effects.create_child(start))
        failed = await self._creating[name]
        if failed is not None:
            self._inputs.put_nowait(failed)
            return
        self._inputs.put_nowait(ChildStarted(start.key))
        ended: ChildFinished = await self.effects.child_end(start)
        self._inputs.put_nowait(ended)

    async def _stop_child(self, stop: StopChild) -> None:
        """Terminate a child, when it has been created if that is under way."""
        if stop.child.name in self._creating:
            await asyncio.wait([self._creating[stop.child.name]])
        await self.effects.control_plane.terminate(stop.child, stop.cause)
        self._inputs.put_nowait(Done(stop.number))

    async def _wait_for_signal(self, wait: WaitForSignal, accepted: Coroutine[Any, Any, None]) -> None:
        await accepted
        self._inputs.put_nowait(await self.effects.signal(wait))

    async def _finish(self, finish: Finish, accepted: Coroutine[Any, Any, None]) -> None:
        await accepted
        stops = [task for key, task in self._working.items() if isinstance(key, tuple) and key[0] == _STOP]
        await asyncio.gather(*stops, return_exceptions=True)
        self.progress.ended_as = WorkflowExecution.Phase.Name(finish.phase)
        self._over.set()
