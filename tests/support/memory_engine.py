"""An engine that keeps what it runs in memory and fails when it is told to."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.executions.engine.port import RunRequest


@dataclass
class MemoryEngine:
    """`running` is what it runs, by name; `failures` are raised in turn before it does anything."""

    running: dict[str, RunRequest] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    stopped: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None  # holds up every run until it is set
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, work: RunRequest) -> None:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        self._fail()
        self.ever.add(work.id.name)
        self.running.setdefault(work.id.name, work)

    async def stop(self, execution: WorkflowExecutionIdentifier) -> bool:
        self._fail()
        self.stopped.append(execution.name)
        return self.running.pop(execution.name, None) is not None

    async def missing(self, executions: Sequence[WorkflowExecutionIdentifier]) -> list[WorkflowExecutionIdentifier]:
        self._fail()
        return [execution for execution in executions if execution.name not in self.running]

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
