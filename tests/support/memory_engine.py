"""An engine in memory, which fails on request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.contracts.engine import RunRequest
from services.executions.rules.placements import Placement


@dataclass
class MemoryEngine:
    """`running` has the executions that it runs, by name; its calls raise `failures` one after the other."""

    running: dict[str, RunRequest] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    stopped: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None  # holds up every run until it is set
    cluster: str = "c1"  # of executions with the label `labelled`; others have none
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def available(self) -> None:
        """Return at once: its calls may fail, and are tried."""

    def choose_cluster(self, request: RunRequest) -> str:
        return self.cluster if request.spec.execution_cluster_label.value == "labelled" else ""

    async def run(self, request: RunRequest) -> None:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        self._fail()
        self.ever.add(request.id.name)
        self.running.setdefault(request.id.name, request)

    async def stop(self, placement: Placement) -> bool:
        self._fail()
        self.stopped.append(placement.id.name)
        return self.running.pop(placement.id.name, None) is not None

    async def missing(self, placements: Sequence[Placement]) -> list[Placement]:
        self._fail()
        return [placement for placement in placements if placement.id.name not in self.running]

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
