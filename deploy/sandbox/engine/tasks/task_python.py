"""The Python of tasks: the one that SANDBOX_TASK_PYTHON names, or an environment with flytekit that is made here, once.

It is made from a lock in the background while the sandbox runs; tasks wait for it.
"""

import asyncio
import fcntl
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

# Wheels only, each with its hash, as for the other environments of this repository.
_INSTALL = (
    *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
    *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement"),
)


# Between two looks at whether another sandbox has made the environment.
_LOCK_SECONDS = 0.5


class NoTaskPython(Exception):
    """There is no Python for tasks, and it cannot be made."""


@dataclass
class TaskPython:
    """The Python of tasks, and its preparation.

    Args:
        chosen: the interpreter that the user has chosen; None to make an environment.
        environment: the folder of the environment to make.
        lock: the requirements with their hashes.
        log_file: gets the output of the installation.
    """

    chosen: Path | None
    environment: Path
    lock: Path
    log_file: Path
    problem: str = ""
    """Why the last preparation failed."""
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def python(self) -> Path:
        """The interpreter; it may not be there yet."""
        return self.chosen or self.environment / "bin" / "python"

    @property
    def ready(self) -> bool:
        """Whether tasks can run."""
        return self._ready.is_set()

    def state(self) -> str:
        """Return why tasks cannot run, for people; empty when they can."""
        if not self.ready:
            return "the Python of tasks is being prepared"
        return self.problem

    async def prepare(self) -> None:
        """Make the environment unless it is there; `wait` ends when this has, also when it fails."""
        try:
            if self.chosen is None and not self._is_made():
                async with _locked(self.environment.with_name(f"{self.environment.name}.lock")):
                    if not self._is_made():  # another sandbox may have made it meanwhile
                        await self._make()
        except (OSError, NoTaskPython) as error:
            self.problem = str(error)
            log.exception("the Python of tasks cannot be prepared")
        finally:
            self._ready.set()

    async def wait(self) -> Path:
        """Wait until tasks can run; return the interpreter; raise NoTaskPython."""
        await self._ready.wait()
        if self.problem:
            raise NoTaskPython(f"the Python of tasks cannot be prepared: {self.problem}")
        if not self.python.exists():
            raise NoTaskPython(f"the Python of tasks is not there: {self.python}")
        return self.python

    @property
    def _stamp(self) -> Path:
        return self.environment / ".ready"

    def _is_made(self) -> bool:
        return self._stamp.exists() and self._stamp.read_text() == self.lock.read_text()

    async def _make(self) -> None:
        log.info("the Python of tasks is being prepared", extra={"environment": str(self.environment)})
        self._stamp.unlink(missing_ok=True)
        await self._run(sys.executable, "-m", "venv", "--clear", str(self.environment))
        await self._run(str(self.python), *_INSTALL, str(self.lock))
        self._stamp.write_text(self.lock.read_text())
        log.info("the Python of tasks is prepared")

    async def _run(self, *command: str) -> None:
        with self.log_file.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                process.kill()
                raise
        if status:
            raise NoTaskPython(f"{Path(command[0]).name} ended with {status}; see {self.log_file}")


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock of a file during the block; sandboxes of one checkout share the environment."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_SECONDS)
        yield
