"""A whole sandbox for tests: every real part, on free ports, independent of a sandbox that may be running."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.support.parts import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox and its addresses."""

    port: int
    folder: Path
    replicas: int = 1
    """The number of processes of each service that can run several times."""
    engine: str = "none"
    """Its engine; with none a test plays the engine."""
    task_python: Path | None = None
    """The Python of tasks."""

    @property
    def target(self) -> str:
        """host:port for gRPC clients."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """The URL for REST clients."""
        return f"http://localhost:{self.port}"

    @property
    def client_config(self) -> Path:
        """The config file made for flytekit and flytectl."""
        return self.folder / "config.yaml"

    @property
    def objects_url(self) -> str:
        """The object store, as the services and an engine on this machine see it."""
        return f"file://{self.folder}/objects"

    def channel(self) -> grpc.aio.Channel:
        """Return a gRPC channel like flytekit's, for responses of 20 MiB and long error messages.

        (clients.md#flytekit-channel-and-retries)
        """
        options = [
            ("grpc.max_metadata_size", 32768),
            ("grpc.max_receive_message_length", 20971520),
            ("grpc.use_local_subchannel_pool", 1),  # no other test's connection to a stack that was restarted
        ]
        return grpc.aio.insecure_channel(self.target, options=options)

    @property
    def supervisor(self) -> int:
        """The process id of the supervisor."""
        number: int = json.loads((self.folder / "state.json").read_text())["supervisor"]
        return number

    def pid(self, part: str) -> int:
        """Return the present process id of a part."""
        state = json.loads((self.folder / "state.json").read_text())
        pid: int = state["parts"][part]["pid"]
        return pid

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the parts, by name."""
        ports: dict[str, int] = json.loads((self.folder / "state.json").read_text())["ports"]
        return ports

    def kill(self, part: str) -> None:
        """Kill a part as a crash would."""
        os.kill(self.pid(part), signal.SIGKILL)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the launcher."""
        environment = {**os.environ, "PORT": str(self.port), "SANDBOX_DIR": str(self.folder)}
        environment |= {"SANDBOX_REPLICAS": str(self.replicas), "SANDBOX_ENGINE": self.engine}
        if self.task_python is not None:
            environment["SANDBOX_TASK_PYTHON"] = str(self.task_python)
        return subprocess.run(
            [sys.executable, "-m", "deploy.sandbox", *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )


@contextmanager
def running_sandbox(
    folder: Path, *, replicas: int = 1, engine: str = "none", task_python: Path | None = None
) -> Iterator[Sandbox]:
    """Start a sandbox in `folder`; stop it at the end of the block."""
    sandbox = Sandbox(free_port(), folder, replicas, engine, task_python)
    started = sandbox.run("up")
    try:
        if started.returncode:
            raise RuntimeError(f"the sandbox did not start:\n{started.stdout}{started.stderr}")
        yield sandbox
    finally:
        sandbox.run("down")
