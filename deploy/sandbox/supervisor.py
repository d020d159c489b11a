"""The supervisor, one thread: starts each part once those that it needs are ready, and restarts those that die.

It stops each part before those that it needs or names in `stops_before`.
"""

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

from deploy.sandbox.children import Children, PartProcess, how_ended
from deploy.sandbox.errors import PartError
from deploy.sandbox.files import is_private, write_private
from deploy.sandbox.logs import bound, end_of
from deploy.sandbox.part import STOP_SECONDS, Part, Step

# A part that is not ready by then never will be; a first start on a slow disk takes a few seconds.
READY_SECONDS = 60.0
_POLL_SECONDS = 0.03
# Pause before the n-th restart in a row: none after an accident, longer ones for a part that fails again and again.
_RESTART_SECONDS = (0.0, 0.5, 1.0, 2.0, 3.0)
# A part that has run this long had recovered; its next end counts as the first.
_RECOVERED_SECONDS = 30.0
_LOG_CHECK_SECONDS = 30.0
_CHECK_SECONDS = 1.0
# A part that is broken at so many checks in a row is restarted.
_BROKEN_TIMES = 2


class Supervisor:
    """Runs parts until it is stopped.

    Args:
        parts: what to run.
        env: environment of all parts.
        folder: working directory of all parts.
        logs: folder with a log for each part.
        announce: called with the name of a part that is ready for the first time, and the seconds that this took.
        changed: called whenever something about a part has changed.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        env: Mapping[str, str],
        folder: Path,
        logs: Path,
        announce: Callable[[str, float], None] = lambda _name, _seconds: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.processes = {part.name: PartProcess(part) for part in parts}
        self._children = Children(env, folder)
        self._logs = logs
        self._announce = announce
        self._changed = changed
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._endings: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Stop everything; a second call kills the parts that have not stopped yet."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def hold(self, names: Container[str]) -> None:
        """Stop the parts with these names and hold them down; start the others that were held down."""
        for child in self.processes.values():
            if child.part.name not in names:
                child.wanted.set()
            elif child.wanted.is_set():
                child.wanted.clear()
                ending = asyncio.create_task(self._end(child))
                self._endings.add(ending)
                ending.add_done_callback(self._endings.discard)

    async def run(self, started: Callable[[], None]) -> None:
        """Start all, call `started`, watch until stopped. However it ends, no part is left running.

        Raises:
            PartError: a part does not start.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        work: list[asyncio.Task[None]] = [
            asyncio.create_task(self._first_start(child)) for child in self.processes.values()
        ]
        stopping = asyncio.create_task(self._until_stopped())
        try:
            await _first_failure([*work, stopping], until=stopping)
            if not stopping.done():
                started()
                work = [asyncio.create_task(self._keep_running(child)) for child in self.processes.values()]
                work.extend(asyncio.create_task(self._watch(child)) for child in self.processes.values())
                work.append(asyncio.create_task(self._bound_logs()))
                await _first_failure([*work, stopping], until=stopping)
        finally:
            unfinished = (*work, *self._endings, stopping)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            await asyncio.gather(*(self._stop_in_order(child) for child in self.processes.values()))
            loop.remove_signal_handler(signal.SIGCHLD)

    async def _until_stopped(self) -> None:
        await self._stopping.wait()

    async def _first_start(self, child: PartProcess) -> None:
        for name in child.part.needs:
            await self.processes[name].ready.wait()
        began = time.monotonic()
        await self._start(child)
        self._announce(child.part.name, time.monotonic() - began)

    async def _start(self, child: PartProcess) -> None:
        child.ready.clear()
        try:
            for file, content in child.part.files.items():
                if not is_private(file, content):
                    write_private(file, content)
        except OSError as error:
            raise PartError(f"{child.part.name} cannot be configured: {error}") from error
        for step in child.part.steps:
            await self._run_step(child.part, step)
        child.process = self._children.spawn(child.part, child.part.command, self._log(child.part))
        child.since = time.time()
        self._changed()
        await self._until_ready(child.part, child.process)
        child.ready.set()
        self._changed()

    async def _run_step(self, part: Part, step: Step) -> None:
        if step.stamp is not None and step.stamp.fresh:
            return
        process = self._children.spawn(part, step.command, self._log(part))
        try:
            await self._children.ended(process).wait()
        except asyncio.CancelledError:
            process.kill()
            await self._children.ended(process).wait()
            raise
        if process.returncode:
            raise PartError(f"{part.name} could not be prepared: {how_ended(process)}\n{end_of(self._log(part))}")
        if step.stamp is not None:
            with contextlib.suppress(OSError):  # then it is done again before the next start
                step.stamp.set()

    async def _until_ready(self, part: Part, process: subprocess.Popen[bytes]) -> None:
        ended = self._children.ended(process)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await part.is_ready(process.pid):
                    if ended.is_set():
                        raise PartError(f"{part.name} ended at start: {how_ended(process)}\n{end_of(self._log(part))}")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise PartError(
                f"{part.name} was not ready after {READY_SECONDS:.0f} s\n{end_of(self._log(part))}"
            ) from None

    async def _keep_running(self, child: PartProcess) -> None:
        """Restart the part whenever it ends, once it is wanted, until cancelled."""
        failures = 0
        while True:
            if child.process is None:
                raise RuntimeError(f"{child.part.name} was never started")
            await self._children.ended(child.process).wait()
            recovered = child.ready.is_set() and time.time() - child.since > _RECOVERED_SECONDS
            child.ready.clear()
            if child.wanted.is_set():
                failures = 0 if recovered else failures
                child.last_end = child.cause or how_ended(child.process)
                self._changed()
                await asyncio.sleep(_RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)])
                failures += 1
                child.restarts += 1
            child.cause = ""
            self._changed()
            await child.wanted.wait()
            try:
                await self._start(child)
            except PartError as error:
                child.cause = str(error).partition("\n")[0]
                child.process.kill()

    async def _watch(self, child: PartProcess) -> None:
        """End the part when its check finds it broken; `_keep_running` starts it again."""
        if child.part.broken is None:
            return
        times = 0
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            process = child.process
            if process is None or not (child.wanted.is_set() and child.ready.is_set()):
                times = 0
                continue
            times = times + 1 if await child.part.broken(process.pid) else 0
            if times >= _BROKEN_TIMES and child.process is process and child.wanted.is_set():
                times = 0
                child.cause = "its check found it broken"
                await self._end(child)

    async def _stop_in_order(self, child: PartProcess) -> None:
        """End the part once all that stop before it are gone."""
        for other in self.processes.values():
            if child.part.name in (*other.part.needs, *other.part.stops_before):
                await other.gone.wait()
        await self._end(child)
        child.gone.set()
        self._changed()

    async def _end(self, child: PartProcess) -> None:
        """Drain the part and send its stop signal; kill it when it does not end in time."""
        process = child.process
        if process is None or self._children.ended(process).is_set():
            return
        if child.part.drain is not None and not self._hurry.is_set():
            await child.part.drain()
        process.send_signal(child.part.stop_signal)
        ended = asyncio.create_task(self._children.ended(process).wait())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([ended, hurry], timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not ended.done():
            process.kill()
            await ended

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_SECONDS)
            for child in self.processes.values():
                bound(self._log(child.part))

    def _log(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"

    def _reap(self) -> None:
        self._children.reap(keep={child.process for child in self.processes.values()})


async def _first_failure(tasks: Sequence[asyncio.Task[None]], until: asyncio.Task[None]) -> None:
    """Wait until all but `until` are done, or `until` is done; raise the first failure."""
    waiting = set(tasks)
    while waiting - {until} and not until.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
