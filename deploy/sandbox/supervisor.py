"""Starts the parts in order, restarts those that die, stops all in the opposite order.

One thread and one event loop: the kernel ties "tell me when my parent dies" to the thread that started a process, and
SIGCHLD tells of ends without a thread per child.
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
# Waiting before the n-th restart in a row: at once for an accident, with patience for what fails again and again.
_RESTART_SECONDS = (0.0, 0.5, 1.0, 2.0, 3.0)
# A part that has run this long had recovered; its next end counts as the first.
_RECOVERED_SECONDS = 30.0
_LOG_CHECK_SECONDS = 30.0
# A part that says so often in a row that it is broken, a look apart, is restarted.
_LOOK_SECONDS = 1.0
_BROKEN_TIMES = 2


@dataclass
class Running:
    """A part and what has become of it."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    """Unix time of the last start."""
    restarts: int = 0
    last_end: str = ""
    """How it ended last time, when that was not asked for."""
    cause: str = ""
    """Why it is being ended, or was not started; otherwise it ended by itself."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless the part is held down on purpose."""

    def __post_init__(self) -> None:
        self.wanted.set()


class Supervisor:
    """Runs a set of parts until it is asked to stop.

    `announce` is told each part that has become ready for the first time, with the seconds that took; `changed` is
    called whenever `parts` tells something new.
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
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._endings: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Ask to stop; asking again kills what has not stopped yet."""
        if self._asked.is_set():
            self._hurry.set()
        self._asked.set()

    def hold(self, names: Container[str]) -> None:
        """Hold the parts called so down, as if somebody had stopped them, and start again those held before."""
        for one in self.parts.values():
            if one.part.name not in names:
                one.wanted.set()
            elif one.wanted.is_set():
                one.wanted.clear()
                ending = asyncio.create_task(self._end(one))
                self._endings.add(ending)
                ending.add_done_callback(self._endings.discard)

    async def run(self, started: Callable[[], None]) -> None:
        """Start all, call `started`, watch until asked to stop; raises PartError when one does not start.

        However it ends, no part is left running.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        work: list[asyncio.Task[None]] = [asyncio.create_task(self._first_start(one)) for one in self.parts.values()]
        asked = asyncio.create_task(self._until_asked())
        try:
            await _first_failure([*work, asked], until=asked)
            if not asked.done():
                started()
                work = [asyncio.create_task(self._keep(one)) for one in self.parts.values()]
                work.extend(asyncio.create_task(self._watch(one)) for one in self.parts.values())
                work.append(asyncio.create_task(self._bound_logs()))
                await _first_failure([*work, asked], until=asked)
        finally:
            unfinished = (*work, *self._endings, asked)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            await asyncio.gather(*(self._stop(one) for one in self.parts.values()))
            loop.remove_signal_handler(signal.SIGCHLD)

    async def _until_asked(self) -> None:
        await self._asked.wait()

    async def _first_start(self, one: Running) -> None:
        for name in one.part.needs:
            await self.parts[name].ready.wait()
        began = time.monotonic()
        await self._start(one)
        self._announce(one.part.name, time.monotonic() - began)

    async def _start(self, one: Running) -> None:
        one.ready.clear()
        try:
            for file, content in one.part.files.items():
                if not is_private(file, content):
                    write_private(file, content)
        except OSError as error:
            raise PartError(f"{one.part.name} cannot be configured: {error}") from error
        for step in one.part.before:
            await self._do(one.part, step)
        one.process = self._spawn(one.part, one.part.command)
        one.since = time.time()
        self._changed()
        await self._until_ready(one.part, one.process)
        one.ready.set()
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
            raise PartError(f"{part.name} could not be prepared: {_told(process)}\n{end_of(self._log(part))}")
        if step.stamp is not None:
            with contextlib.suppress(OSError):  # then it is done again before the next start
                step.stamp.set()

    async def _until_ready(self, part: Part, process: subprocess.Popen[bytes]) -> None:
        ended = self._ended[process]
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await part.ready(process.pid):
                    if ended.is_set():
                        raise PartError(f"{part.name} ended at start: {_told(process)}\n{end_of(self._log(part))}")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise PartError(
                f"{part.name} was not ready after {READY_SECONDS:.0f} s\n{end_of(self._log(part))}"
            ) from None

    async def _keep(self, one: Running) -> None:
        """Restart the part whenever it ends, once it is wanted, until cancelled."""
        failures = 0
        while True:
            if one.process is None:
                raise RuntimeError(f"{one.part.name} was never started")
            await self._ended[one.process].wait()
            recovered = one.ready.is_set() and time.time() - one.since > _RECOVERED_SECONDS
            one.ready.clear()
            if one.wanted.is_set():
                failures = 0 if recovered else failures
                one.last_end = one.cause or _told(one.process)
                self._changed()
                await asyncio.sleep(_RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)])
                failures += 1
                one.restarts += 1
            one.cause = ""
            self._changed()
            await one.wanted.wait()
            try:
                await self._start(one)
            except PartError as error:
                one.cause = str(error).partition("\n")[0]
                one.process.kill()

    async def _watch(self, one: Running) -> None:
        """End the part when it says that it is broken; `_keep` starts it again."""
        if one.part.broken is None:
            return
        told = 0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            process = one.process
            if process is None or not (one.wanted.is_set() and one.ready.is_set()):
                told = 0
                continue
            told = told + 1 if await one.part.broken(process.pid) else 0
            if told >= _BROKEN_TIMES and one.process is process and one.wanted.is_set():
                told = 0
                one.cause = "it said that it is broken"
                await self._end(one)

    async def _stop(self, one: Running) -> None:
        for other in self.parts.values():
            if one.part.name in (*other.part.needs, *other.part.in_front_of):
                await other.gone.wait()
        await self._end(one)
        one.gone.set()
        self._changed()

    async def _end(self, one: Running) -> None:
        process = one.process
        if process is None or self._ended[process].is_set():
            return
        if one.part.drain is not None and not self._hurry.is_set():
            await one.part.drain()
        process.send_signal(one.part.stop_signal)
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
        current = {one.process for one in self.parts.values()}
        for process, ended in list(self._ended.items()):
            if ended.is_set() and process not in current:
                del self._ended[process]
            elif process.poll() is not None:
                ended.set()


async def _first_failure(tasks: Sequence[asyncio.Task[None]], until: asyncio.Task[None]) -> None:
    """Wait until all but `until` are done, or `until` is, or one has failed, which is raised."""
    waiting = set(tasks)
    while waiting - {until} and not until.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _told(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
