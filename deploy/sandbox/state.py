"""What runs and where, as the supervisor last wrote it to state.json."""

import asyncio
import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Self

from deploy.sandbox.files import write_json
from deploy.sandbox.layout import Layout, Ports
from deploy.sandbox.supervisor import Running

# After a write that failed, as on a full disk.
_AGAIN_SECONDS = 1.0

STARTING, RUNNING, STOPPING = "starting", "running", "stopping"


@dataclass(frozen=True)
class PartState:
    """One part."""

    pid: int | None
    since: float
    """Unix time of its last start."""
    ready: bool
    restarts: int
    last_end: str
    held: bool = False
    """Whether it was stopped on purpose and stays so; a stack that was started by an earlier release does not say."""


@dataclass(frozen=True)
class State:
    """The whole sandbox."""

    phase: str
    supervisor: int
    started: float
    port: int
    ports: Mapping[str, int]
    parts: Mapping[str, PartState]

    @classmethod
    def read(cls, layout: Layout) -> Self | None:
        """The state of a sandbox; None when nothing was written since it last stopped in order."""
        try:
            read = json.loads(layout.state.read_text())
        except FileNotFoundError:
            return None
        return cls(**{**read, "parts": {name: PartState(**part) for name, part in read["parts"].items()}})

    @property
    def all_ports(self) -> Ports:
        """The ports as the process table takes them."""
        return Ports(self.port, self.ports)


class StateFile:
    """Keeps state.json true while the supervisor lives."""

    def __init__(self, layout: Layout, ports: Ports) -> None:
        self.phase = STARTING
        self._layout = layout
        self._ports = ports
        self._started = time.time()
        self._again: asyncio.TimerHandle | None = None

    def write(self, parts: Collection[Running]) -> None:
        """Write what is true now, or as soon as there is room for it."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        states = {
            one.part.name: PartState(
                pid=one.process.pid if one.process and one.process.returncode is None else None,
                since=one.since,
                ready=one.ready.is_set(),
                held=not one.wanted.is_set(),
                restarts=one.restarts,
                last_end=one.last_end,
            )
            for one in parts
        }
        state = State(self.phase, os.getpid(), self._started, self._ports.gateway, dict(self._ports.others), states)
        try:
            write_json(self._layout.state, asdict(state))
        except OSError:
            # What was true before stays there: nothing else is worth the end of everything that runs.
            self._again = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self.write, parts)

    def remove(self) -> None:
        """Leave nothing, as nothing runs any more."""
        if self._again is not None:
            self._again.cancel()
        self._layout.state.unlink(missing_ok=True)
