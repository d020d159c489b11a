"""All runs of the engine: accepted ones are on disk before they begin, and go on after a restart."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from deploy.sandbox.engine.failures import failure_of, passes
from deploy.sandbox.engine.path_parts import path_part
from deploy.sandbox.engine.run import Run
from deploy.sandbox.engine.run_parts import Progress
from services.contracts.engine import RunRequest, decode_run, encode_run
from services.kit.errors import InvalidArgument

log = logging.getLogger(__name__)

_DEFAULT_CAUSE = "the execution was terminated"
# Until a run is tried again that the disk or the control plane has interrupted.
_AGAIN_SECONDS = 2.0
# Ended runs that are listed.
_MOST_ENDED = 200


class RunKey(NamedTuple):
    """The identifier of an execution."""

    project: str
    domain: str
    name: str

    @classmethod
    def of(cls, identifier: WorkflowExecutionIdentifier) -> "RunKey":
        """Return the key of an execution."""
        return cls(identifier.project, identifier.domain, identifier.name)


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: its request, its journal, where its data is, and whether it is to end."""

    root: Path

    @property
    def request(self) -> Path:
        """The request to run it; a run without is none."""
        return self.root / "request"

    @property
    def journal(self) -> Path:
        """The inputs of its state machine."""
        return self.root / "journal"

    @property
    def stop(self) -> Path:
        """A file that is there once it is to be terminated."""
        return self.root / "stop"

    @property
    def data(self) -> Path:
        """The folder of its data below those of the object store; a run that an earlier release accepted has none."""
        return self.root / "data"

    def data_folder(self, execution: WorkflowExecutionIdentifier) -> str:
        """Return the folder of its data below those of the object store."""
        try:
            return self.data.read_text()
        except FileNotFoundError:
            # Two executions may have it in common: a-b/c/e and a/b-c/e.
            return f"{execution.project}-{execution.domain}-{execution.name}"

    def accept(self, request: RunRequest) -> None:
        """Store the request."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.request.exists():
            self.data.write_text("/".join(RunKey.of(request.id)))
        fresh = self.request.with_suffix(".new")
        fresh.write_bytes(encode_run(request))
        fresh.replace(self.request)

    def delete(self) -> None:
        """Delete the run; the request first, so that half a folder is no run."""
        self.request.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)


@dataclass
class ActiveRun:
    """A run that has not ended."""

    request: RunRequest
    folder: RunFolder
    task: asyncio.Task[None] | None = None
    run: Run | None = None
    """None while it is prepared."""
    progress: Progress | None = None
    cause: str = ""
    """Why it is to be terminated; empty unless it is."""


class Ends:
    """The ends of runs for which other runs, their parents, wait."""

    def __init__(self) -> None:
        self._events: dict[RunKey, asyncio.Event] = {}

    def of(self, identifier: WorkflowExecutionIdentifier) -> asyncio.Event:
        """Return an asyncio.Event that is set when an execution that runs here, or will, has ended."""
        return self._events.setdefault(RunKey.of(identifier), asyncio.Event())

    def set(self, identifier: WorkflowExecutionIdentifier) -> None:
        """Set the asyncio.Event of an execution, if one waits for it."""
        if (end := self._events.pop(RunKey.of(identifier), None)) is not None:
            end.set()


@dataclass
class Runs:
    """The runs of one engine.

    Args:
        folder: where they are stored.
        make: prepares a run: reads what it needs and its journal, or begins one.
        cause_of: returns why an execution was terminated.
        report_end: reports the end of an execution that has no run.
        released: called when a run has ended.
        ends: the asyncio.Event of the end of each run for which one waits.
    """

    folder: Path
    make: Callable[[RunRequest, RunFolder], Awaitable[Run]]
    cause_of: Callable[[WorkflowExecutionIdentifier], Awaitable[str]]
    report_end: Callable[[WorkflowExecutionIdentifier, WorkflowExecution.Phase, ExecutionError], Awaitable[None]]
    released: Callable[[WorkflowExecutionIdentifier], None]
    ends: Ends
    active: dict[RunKey, ActiveRun] = field(default_factory=dict)
    ended: dict[RunKey, Progress] = field(default_factory=dict)

    def resume(self) -> None:
        """Go on with the runs on disk."""
        resumed = 0
        for file in sorted(self.folder.glob("*/*/*/request")):
            folder = RunFolder(file.parent)
            try:
                request = decode_run(file.read_bytes())
            except InvalidArgument:
                log.exception("a stored run cannot be read", extra={"folder": str(folder.root)})
                continue
            self._start(ActiveRun(request, folder))
            resumed += 1
            if folder.stop.exists():
                self._terminate(self.active[RunKey.of(request.id)], folder.stop.read_text())
        log.info("runs are resumed", extra={"runs": resumed})

    def run(self, request: RunRequest) -> None:
        """Accept an execution and begin to run it, unless it is here already."""
        key = RunKey.of(request.id)
        if key in self.active:
            return
        folder = RunFolder(self.folder.joinpath(*map(path_part, key)))
        folder.accept(request)
        self._start(ActiveRun(request, folder))

    async def stop(self, identifier: WorkflowExecutionIdentifier) -> bool:
        """Terminate a run; return False when there is none."""
        active = self.active.get(RunKey.of(identifier))
        if active is None:
            return False
        if not active.cause:
            cause = await self.cause_of(identifier) or _DEFAULT_CAUSE
            if RunKey.of(identifier) not in self.active:
                return False
            active.folder.stop.write_text(cause)
            self._terminate(active, cause)
        return True

    def has(self, identifier: WorkflowExecutionIdentifier) -> bool:
        """Return whether an execution runs here."""
        return RunKey.of(identifier) in self.active

    async def close(self) -> None:
        """Interrupt all runs, which go on after the next start; end the processes of their tasks."""
        tasks = [active.task for active in self.active.values() if active.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, active: ActiveRun) -> None:
        self.active[RunKey.of(active.request.id)] = active
        active.task = asyncio.create_task(self._carry_out(active))

    def _terminate(self, active: ActiveRun, cause: str) -> None:
        active.cause = cause
        if active.run is not None:
            active.run.abort(cause)

    async def _carry_out(self, active: ActiveRun) -> None:
        """Run an execution to its end; again from its journal after errors that pass."""
        key = RunKey.of(active.request.id)
        while True:
            try:
                run = await self.make(active.request, active.folder)
                active.run, active.progress = run, run.progress
                if active.cause:
                    run.abort(active.cause)
                await run.run()
            except Exception as error:
                log.exception("a run has failed", extra={"execution": "/".join(key)})
                active.run = None
                if not passes(error):
                    await self._fail(active, failure_of(error))
                    break
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                break
        self._end(key, active)

    async def _fail(self, active: ActiveRun, error: ExecutionError) -> None:
        """End an execution that cannot be prepared, or whose run has failed outside of its state machine."""
        phase = WorkflowExecution.ABORTED if active.cause else WorkflowExecution.FAILED
        if active.progress is not None:
            active.progress.ended_as = WorkflowExecution.Phase.Name(phase)
        await self.report_end(active.request.id, phase, error)

    def _end(self, key: RunKey, active: ActiveRun) -> None:
        active.folder.delete()
        del self.active[key]
        if active.progress is not None:
            self.ended[key] = active.progress
            while len(self.ended) > _MOST_ENDED:
                del self.ended[next(iter(self.ended))]
        self.released(active.request.id)
        self.ends.set(active.request.id)
