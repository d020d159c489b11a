"""A sandbox of the load generator's own, and control of its parts.

It is controlled as a user would: by the launcher's commands, by `state.json` and by signals.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.entities import ProjectDomain
from bench.processes import sandbox_pids
from bench.run import Target

REPOSITORY = Path(__file__).parents[1]
SCOPE = ProjectDomain("flytesnacks", "development")
_COMMAND_SECONDS = 180
_POLL_SECONDS = 0.05
# A part comes back within seconds; one that takes this long does not come back.
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Stack:
    """A running sandbox: its folder, the gateway's port, and the checkout of the repository whose code it runs."""

    folder: Path
    port: int
    checkout: Path = REPOSITORY

    @property
    def target(self) -> Target:
        """The target of the load."""
        return Target("127.0.0.1", self.port, SCOPE, sandbox_pids(self._state_file))

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """The state of each part, from state.json."""
        parts: dict[str, dict[str, Any]] = json.loads(self._state_file.read_text())["parts"]
        return parts

    def replicas(self, name: str) -> list[str]:
        """Return the names of the parts that are the service or server `name`."""
        return [part for part in self.parts if part == name or part.rpartition("-")[0] == name]

    def launcher(self, *command: str, replicas: int = 1, engine: str = "none") -> None:
        """Carry out a command of the launcher; raise CalledProcessError.

        Without an engine the load generator sends the events.
        """
        environment = {
            **os.environ,
            "PORT": str(self.port),
            "SANDBOX_DIR": str(self.folder),
            "SANDBOX_REPLICAS": str(replicas),
            "SANDBOX_ENGINE": engine,
        }
        subprocess.run(  # noqa: S603  # our own launcher
            [sys.executable, "-m", "deploy.sandbox", *command],
            cwd=self.checkout,
            env=environment,
            timeout=_COMMAND_SECONDS,
            check=True,
        )

    def signal(self, part: str, number: signal.Signals) -> int:
        """Send a signal to a part; return its process id."""
        pid: int = self.parts[part]["pid"]
        os.kill(pid, number)
        return pid

    async def until_ready(self, *, but: int | None = None) -> None:
        """Wait until every part is ready, none of them as the process `but`; raise TimeoutError."""
        async with asyncio.timeout(READY_SECONDS):
            while not all(part["ready"] and part["pid"] != but for part in self.parts.values()):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)  # another process writes the file and sends no event

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"


@contextmanager
def running_stack(
    *, replicas: int = 1, folder: Path | None = None, checkout: Path = REPOSITORY, engine: str = "none"
) -> Iterator[Stack]:
    """Run a sandbox on a free port to the end of the block, in a temporary folder unless one is given."""
    with TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as temporary:
        # A short path: PostgreSQL's socket must fit into 107 characters.
        stack = Stack(folder or Path(temporary), _free_port(), checkout)
        try:
            stack.launcher("up", replicas=replicas, engine=engine)
            yield stack
        finally:
            stack.launcher("down")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
