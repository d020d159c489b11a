"""The state of a sandbox, as the supervisor last wrote it to state.json."""

import asyncio
import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Self

from deploy.sandbox.children import PartProcess
from deploy.sandbox.files import write_json
from deploy.sandbox.layout import Layout
from deploy.sandbox.ports import Ports

# Before the next try after a write that failed, as on a full disk.
_RETRY_SECONDS = 1.0

STARTING, RUNNING, STOPPING = "starting", "running", "stopping"


@dataclass(frozen=True)
class PartState:
    """The state of one part."""

    pid: int | None
    since: float
    """Unix time of its last start."""
    ready: bool
    restarts: int
    last_end: str
    held: bool = False
    """Whether it was stopped on purpose and stays so; the file of a stack started by an earlier release lacks it."""


@dataclass(frozen=True)
class State:
    """The state of a sandbox."""

    phase: str
    supervisor: int
    started: float
    port: int
    ports: Mapping[str, int]
    parts: Mapping[str, PartState]

    @classmethod
    def read(cls, layout: Layout) -> Self | None:
        """Return the state of a sandbox; None without state.json: it was never started, or it stopped in order."""
        try:
            read = json.loads(layout.state.read_text())
        except FileNotFoundError:
            return None
        return cls(**{**read, "parts": {name: PartState(**part) for name, part in read["parts"].items()}})

    @property
    def all_ports(self) -> Ports:
        """The ports as `parts.stack` takes them."""
        return Ports(self.port, self.ports)


class StateFile:
    """The file state.json, current while the supervisor runs."""

    def __init__(self, layout: Layout, ports: Ports) -> None:
        self.phase = STARTING
        self._layout = layout
        self._ports = ports
        self._started = time.time()
        self._retry: asyncio.TimerHandle | None = None

    def write(self, children: Collection[PartProcess]) -> None:
        """Write the present state, later when there is no disk space for it now."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        states = {
            child.part.name: PartState(
                pid=child.process.pid if child.process and child.process.returncode is None else None,
                since=child.since,
                ready=child.ready.is_set(),
                held=not child.wanted.is_set(),
                restarts=child.restarts,
                last_end=child.last_end,
            )
            for child in children
        }
        state = State(self.phase, os.getpid(), self._started, self._ports.gateway, dict(self._ports.others), states)
        try:
            write_json(self._layout.state, asdict(state))
        except OSError:
            # The previous state stays in the file: a failed write is no reason to stop everything.
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self.write, children)

    def remove(self) -> None:
        """Delete the file: nothing runs any more."""
        if self._retry is not None:
            self._retry.cancel()
        self._layout.state.unlink(missing_ok=True)
