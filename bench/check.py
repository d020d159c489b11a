"""Reads back what was reported: every execution, node and task must be in the phase of its last accepted event.

Accepted means on file: while executions is away or has fallen behind, events are answered OK before they are applied.
Whoever reads back after that says how long may be waited for it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flyteidl.admin.execution_pb2 import Execution, WorkflowExecutionGetRequest
from flyteidl.admin.node_execution_pb2 import NodeExecutionList, NodeExecutionListRequest
from flyteidl.admin.task_execution_pb2 import TaskExecutionList, TaskExecutionListRequest
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier
from google.protobuf.message import Message

from bench.answers import OK
from bench.entities import SERVICE, SUBTASKS, Place, Shape
from bench.http2 import Channel
from bench.rounds import Played
from bench.sequences import Entity

# Enough to keep a small server busy, and nothing is measured here.
_AT_ONCE = 32
_PAGE = 100
# The design's promise: what waited is applied within this time after executions is ready again.
CATCH_UP_SECONDS = 30.0
# Between two looks at an execution that may still be behind.
_AGAIN_SECONDS = 0.5
# Findings beyond these are counted, not told.
_TOLD = 20

M = TypeVar("M", bound=Message)


@dataclass
class Findings:
    """What was read and what was wrong."""

    entities: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        """Take in what was found elsewhere."""
        self.entities += other.entities
        self.wrong += other.wrong

    def told(self) -> list[str]:
        """The first of what was wrong."""
        return self.wrong[:_TOLD]


class _ReadError(Exception):
    pass


def expected(played: Played) -> dict[Entity, int]:
    """Phases that `played` must have: those of its accepted events, less what a call of unknown result touched."""
    phases = {step.entity: step.phase for step in played.play.steps[: played.accepted]}
    if played.doubtful and played.accepted < len(played.play.steps):
        phases.pop(played.play.steps[played.accepted].entity, None)
    return phases


async def check(channel: Channel, place: Place, executions: Iterable[Played], *, patience: float = 0.0) -> Findings:
    """Read every execution of `executions` that was created, with its nodes and tasks.

    One that is not as it must be is read again until `patience` seconds after the call, together for all.
    """
    findings = Findings()
    end = time.perf_counter() + patience
    waiting = iter([played for played in executions if played.created])

    async def reader() -> None:
        for played in waiting:
            found = await _read(channel, place, played)
            while found.wrong and time.perf_counter() < end:
                await asyncio.sleep(_AGAIN_SECONDS)
                found = await _read(channel, place, played)
            findings.add(found)

    await asyncio.gather(*(reader() for _ in range(_AT_ONCE)))
    return findings


async def _read(channel: Channel, place: Place, played: Played) -> Findings:
    findings = Findings()
    try:
        await _Reader(channel, place, played, findings).read()
    except _ReadError as error:
        findings.wrong.append(f"{played.name}: {error}")
    return findings


@dataclass
class _Reader:
    """Reads one execution."""

    channel: Channel
    place: Place
    played: Played
    findings: Findings

    async def read(self) -> None:
        wanted = expected(self.played)
        found: dict[Entity, int] = {}
        identifier = WorkflowExecutionIdentifier(
            project=self.place.project, domain=self.place.domain, name=self.played.name
        )
        execution = await self._call("GetExecution", WorkflowExecutionGetRequest(id=identifier), Execution)
        found[Entity()] = execution.closure.phase
        for parent in {entity.parent for entity in wanted if not entity.is_task}:
            request = NodeExecutionListRequest(workflow_execution_id=identifier, unique_parent_id=parent, limit=_PAGE)
            async for node in self._pages("ListNodeExecutions", request, NodeExecutionList, _nodes_of):
                found[Entity(node.id.node_id, parent)] = node.closure.phase
        for entity in wanted:
            if entity.is_task:
                found |= await self._task(entity, identifier)
        self._compare(wanted, found)

    async def _task(self, entity: Entity, execution: WorkflowExecutionIdentifier) -> dict[Entity, int]:
        node = NodeExecutionIdentifier(execution_id=execution, node_id=entity.node)
        request = TaskExecutionListRequest(node_execution_id=node, limit=_PAGE)
        pages = self._pages("ListTaskExecutions", request, TaskExecutionList, _tasks_of)
        attempts = [attempt async for attempt in pages]
        if len(attempts) != 1:
            self._wrong(f"node {entity.node} has {len(attempts)} task executions")
            return {}
        closure = attempts[0].closure
        self._compare_reasons(entity, [reason.message for reason in closure.reasons])
        if self.played.play.shape is Shape.MAP and closure.phase == TaskExecution.SUCCEEDED:
            done = sum(one.phase == TaskExecution.SUCCEEDED for one in closure.metadata.external_resources)
            self.findings.entities += SUBTASKS
            if (done, len(closure.metadata.external_resources)) != (SUBTASKS, SUBTASKS):
                self._wrong(f"node {entity.node} has {done} subtasks that succeeded")
        return {entity: closure.phase}

    def _compare(self, wanted: dict[Entity, int], found: dict[Entity, int]) -> None:
        for entity, phase in wanted.items():
            self.findings.entities += 1
            if found.get(entity) != phase:
                self._wrong(f"{entity} is in phase {found.get(entity)} and not in {phase}")
        if not self.played.doubtful and (unknown := found.keys() - wanted.keys() - {Entity()}):
            self._wrong(f"has what nobody reported: {sorted(unknown)}")

    def _compare_reasons(self, entity: Entity, found: list[str]) -> None:
        """Reasons add up in the order of the events: one twice, or before its turn, would stay visible here."""
        steps = self.played.play.steps[: self.played.accepted]
        wanted = [step.reason for step in steps if step.entity == entity and step.reason]
        if found != wanted:
            self._wrong(f"node {entity.node} tells of {found} and not of {wanted}")

    def _wrong(self, what: str) -> None:
        self.findings.wrong.append(f"{self.played.name}: {what}")

    async def _pages(
        self, method: str, request: Any, kind: type[M], items: Callable[[M], Iterable[Any]]
    ) -> AsyncIterator[Any]:
        while True:
            page: Any = await self._call(method, request, kind)
            for item in items(page):
                yield item
            if not page.token:
                return
            request.token = page.token

    async def _call(self, method: str, request: Message, kind: type[M]) -> M:
        answer = await self.channel.call(SERVICE + method, request.SerializeToString())
        if answer.code != OK:
            raise _ReadError(f"{method} was answered with code {answer.code}: {answer.message}")
        return kind.FromString(answer.body)


def _nodes_of(page: NodeExecutionList) -> Iterator[Any]:
    return iter(page.node_executions)


def _tasks_of(page: TaskExecutionList) -> Iterator[Any]:
    return iter(page.task_executions)
