"""The supervisor: starts the parts in order, restarts those that die, stops all in the opposite order.

One thread and one event loop: the kernel ties the signal for the death of the parent to the thread that started a
process, and SIGCHLD reports the end of a child without a thread for each.
"""

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.sandbox.errors import PartError
from deploy.sandbox.files import is_private, write_private
from deploy.sandbox.logs import bound, end_of
from deploy.sandbox.part import STOP_SECONDS, Part, Step
from deploy.sandbox.spawn import spawn

# A part that is not ready by then never will be; a first start on a slow disk takes a few seconds.
READY_SECONDS = 60.0
_POLL_SECONDS = 0.03
# Pause before the n-th restart in a row: none after an accident, longer ones for a part that fails again and again.
_RESTART_SECONDS = (0.0, 0.5, 1.0, 2.0, 3.0)
# A part that has run this long had recovered; its next end counts as the first.
_RECOVERED_SECONDS = 30.0
_LOG_CHECK_SECONDS = 30.0
# A part that is broken at so many checks in a row is restarted.
_CHECK_SECONDS = 1.0
_BROKEN_TIMES = 2


@dataclass
class Running:
    """A part and its process."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    """Unix time of the last start."""
    restarts: int = 0
    last_end: str = ""
    """How it ended last time, when that was not on purpose."""
    cause: str = ""
    """Why the supervisor ends it or did not start it; empty when it ends by itself."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless the part is held down on purpose."""

    def __post_init__(self) -> None:
        self.wanted.set()


class Supervisor:
    """A runner of a set of parts, until it is stopped.

    It calls `announce` with each part that is ready for the first time and the seconds that took, and `changed`
    whenever `parts` has changed.
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
        self.parts = {part.name: Running(part) for part in parts}
        self._env = env
        self._folder = folder
        self._logs = logs
        self._announce = announce
        self._changed = changed
        self._ended: dict[subprocess.Popen[bytes], asyncio.Event] = {}
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
        for running in self.parts.values():
            if running.part.name not in names:
                running.wanted.set()
            elif running.wanted.is_set():
                running.wanted.clear()
                ending = asyncio.create_task(self._end(running))
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
            asyncio.create_task(self._first_start(running)) for running in self.parts.values()
        ]
        stopping = asyncio.create_task(self._until_stopped())
        try:
            await _first_failure([*work, stopping], until=stopping)
            if not stopping.done():
                started()
                work = [asyncio.create_task(self._keep(running)) for running in self.parts.values()]
                work.extend(asyncio.create_task(self._watch(running)) for running in self.parts.values())
                work.append(asyncio.create_task(self._bound_logs()))
                await _first_failure([*work, stopping], until=stopping)
        finally:
            unfinished = (*work, *self._endings, stopping)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            await asyncio.gather(*(self._stop(running) for running in self.parts.values()))
            loop.remove_signal_handler(signal.SIGCHLD)

    async def _until_stopped(self) -> None:
        await self._stopping.wait()

    async def _first_start(self, running: Running) -> None:
        for name in running.part.needs:
            await self.parts[name].ready.wait()
        began = time.monotonic()
        await self._start(running)
        self._announce(running.part.name, time.monotonic() - began)

    async def _start(self, running: Running) -> None:
        running.ready.clear()
        try:
            for file, content in running.part.files.items():
                if not is_private(file, content):
                    write_private(file, content)
        except OSError as error:
            raise PartError(f"{running.part.name} cannot be configured: {error}") from error
        for step in running.part.before:
            await self._do(running.part, step)
        running.process = self._spawn(running.part, running.part.command)
        running.since = time.time()
        self._changed()
        await self._until_ready(running.part, running.process)
        running.ready.set()
        self._changed()

    async def _do(self, part: Part, step: Step) -> None:
        if step.stamp is not None and step.stamp.fresh:
            return
        process = self._spawn(part, step.command)
        try:
            await self._ended[process].wait()
        except asyncio.CancelledError:
            process.kill()
            await self._ended[process].wait()
            raise
        if process.returncode:
            raise PartError(f"{part.name} could not be prepared: {_how_ended(process)}\n{end_of(self._log(part))}")
        if step.stamp is not None:
            with contextlib.suppress(OSError):  # then it is done again before the next start
                step.stamp.set()

    async def _until_ready(self, part: Part, process: subprocess.Popen[bytes]) -> None:
        ended = self._ended[process]
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await part.ready(process.pid):
                    if ended.is_set():
                        raise PartError(f"{part.name} ended at start: {_how_ended(process)}\n{end_of(self._log(part))}")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise PartError(
                f"{part.name} was not ready after {READY_SECONDS:.0f} s\n{end_of(self._log(part))}"
            ) from None

    async def _keep(self, running: Running) -> None:
        """Restart the part whenever it ends, once it is wanted, until cancelled."""
        failures = 0
        while True:
            if running.process is None:
                raise RuntimeError(f"{running.part.name} was never started")
            await self._ended[running.process].wait()
            recovered = running.ready.is_set() and time.time() - running.since > _RECOVERED_SECONDS
            running.ready.clear()
            if running.wanted.is_set():
                failures = 0 if recovered else failures
                running.last_end = running.cause or _how_ended(running.process)
                self._changed()
                await asyncio.sleep(_RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)])
                failures += 1
                running.restarts += 1
            running.cause = ""
            self._changed()
            await running.wanted.wait()
            try:
                await self._start(running)
            except PartError as error:
                running.cause = str(error).partition("\n")[0]
                running.process.kill()

    async def _watch(self, running: Running) -> None:
        """End the part when its check finds it broken; `_keep` starts it again."""
        if running.part.broken is None:
            return
        times = 0
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            process = running.process
            if process is None or not (running.wanted.is_set() and running.ready.is_set()):
                times = 0
                continue
            times = times + 1 if await running.part.broken(process.pid) else 0
            if times >= _BROKEN_TIMES and running.process is process and running.wanted.is_set():
                times = 0
                running.cause = "its check found it broken"
                await self._end(running)

    async def _stop(self, running: Running) -> None:
        for other in self.parts.values():
            if running.part.name in (*other.part.needs, *other.part.in_front_of):
                await other.gone.wait()
        await self._end(running)
        running.gone.set()
        self._changed()

    async def _end(self, running: Running) -> None:
        process = running.process
        if process is None or self._ended[process].is_set():
            return
        if running.part.drain is not None and not self._hurry.is_set():
            await running.part.drain()
        process.send_signal(running.part.stop_signal)
        ended = asyncio.create_task(self._ended[process].wait())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([ended, hurry], timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not ended.done():
            process.kill()
            await ended

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_SECONDS)
            for part in self.parts:
                bound(self._logs / f"{part}.log")

    def _spawn(self, part: Part, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        try:
            process = spawn(
                command,
                env={**self._env, **part.env},
                folder=self._folder,
                log=self._log(part),
                orphan_signal=part.orphan_signal,
                drop_root=part.drop_root and command is part.command,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise PartError(f"{part.name} cannot be run: {error}") from error
        self._ended[process] = asyncio.Event()
        return process

    def _log(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"

    def _reap(self) -> None:
        current = {running.process for running in self.parts.values()}
        for process, ended in list(self._ended.items()):
            if ended.is_set() and process not in current:
                del self._ended[process]
            elif process.poll() is not None:
                ended.set()


async def _first_failure(tasks: Sequence[asyncio.Task[None]], until: asyncio.Task[None]) -> None:
    """Wait until all but `until` are done, or `until` is done; raise the first failure."""
    waiting = set(tasks)
    while waiting - {until} and not until.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _how_ended(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
