"""An engine in memory, which fails on request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.engine import RunRequest


@dataclass
class MemoryEngine:
    """`running` has the executions that it runs, by name; its calls raise `failures` one after the other."""

    running: dict[str, RunRequest] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    stopped: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None  # holds up every run until it is set
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, request: RunRequest) -> None:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        self._fail()
        self.ever.add(request.id.name)
        self.running.setdefault(request.id.name, request)

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
