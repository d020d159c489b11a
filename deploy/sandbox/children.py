"""The child processes of the supervisor: their start, and an `asyncio.Event` for the end of each.

One thread starts all: the kernel ties the signal for the death of the parent to the thread that started a process.
SIGCHLD reports the end of a child without a thread for each.
"""

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.sandbox.errors import PartError
from deploy.sandbox.part import Part
from deploy.sandbox.spawn import spawn


@dataclass
class PartProcess:
    """A part with its process, the present one or the last, and what the supervisor knows of it."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    """None before the first start."""
    since: float = 0.0
    """Unix time of the last start."""
    restarts: int = 0
    last_end: str = ""
    """How it ended last time, when that was not on purpose."""
    cause: str = ""
    """Why the supervisor ends it or did not start it; empty when it ends by itself."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it was stopped with the whole stack."""
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless the part is held down on purpose."""

    def __post_init__(self) -> None:
        self.wanted.set()


class Children:
    """The processes that were started, each with an `asyncio.Event` for its end.

    Args:
        env: environment of all, to which a part adds its own.
        folder: working directory of all.
    """

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self._env = env
        self._folder = folder
        self._ended: dict[subprocess.Popen[bytes], asyncio.Event] = {}

    def spawn(self, part: Part, command: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
        """Start `command`, the part's own or one of its steps; raise PartError when that fails."""
        try:
            process = spawn(
                command,
                env={**self._env, **part.env},
                folder=self._folder,
                log=log,
                orphan_signal=part.orphan_signal,
                drop_root=part.drop_root and command is part.command,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise PartError(f"{part.name} cannot be run: {error}") from error
        self._ended[process] = asyncio.Event()
        return process

    def ended(self, process: subprocess.Popen[bytes]) -> asyncio.Event:
        """Return the `asyncio.Event` that is set when `process` has ended."""
        return self._ended[process]

    def reap(self, keep: Container[subprocess.Popen[bytes] | None]) -> None:
        """Set the `asyncio.Event` of each process that has ended; forget those that had ended before, except `keep`."""
        for process, ended in list(self._ended.items()):
            if ended.is_set() and process not in keep:
                del self._ended[process]
            elif process.poll() is not None:
                ended.set()


def how_ended(process: subprocess.Popen[bytes]) -> str:
    """Return the exit code or the signal that ended `process`, in words."""
    code = process.returncode
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
