"""Check of what was reported: every execution, node and task must be in the phase of its last accepted event.

Accepted means stored in the stream: while executions is away or behind, events return OK before they are applied. So
the caller of `check` chooses how long to wait for that.
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
from bench.entities import SERVICE, SUBTASKS, ProjectDomain, Shape
from bench.http2 import Channel
from bench.rounds import Played
from bench.sequences import Entity

# Enough to keep a small server busy, and nothing is measured here.
_AT_ONCE = 32
_PAGE = 100
# The promise: events that waited are applied within this time after executions is ready again.
CATCH_UP_SECONDS = 30.0
# Between two reads of an execution that may still be behind.
_AGAIN_SECONDS = 0.5
# Findings beyond these are counted, not shown.
_SHOWN = 20

M = TypeVar("M", bound=Message)


@dataclass
class Findings:
    """What was read and what was wrong."""

    entities: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        """Add the findings of another execution."""
        self.entities += other.entities
        self.wrong += other.wrong

    def shown(self) -> list[str]:
        """Return the first of `wrong`, for a report."""
        return self.wrong[:_SHOWN]


class _ReadError(Exception):
    pass


def expected(played: Played) -> dict[Entity, int]:
    """Return the phases that `played` must have: those of its accepted events, without that of a call in doubt."""
    phases = {step.entity: step.phase for step in played.play.steps[: played.accepted]}
    if played.doubtful and played.accepted < len(played.play.steps):
        phases.pop(played.play.steps[played.accepted].entity, None)
    return phases


async def check(
    channel: Channel, scope: ProjectDomain, executions: Iterable[Played], *, patience: float = 0.0
) -> Findings:
    """Read every execution of `executions` that was created, with its nodes and tasks.

    A wrong one is read again until `patience` seconds after the call; the time is for all executions together.
    """
    findings = Findings()
    end = time.perf_counter() + patience
    waiting = iter([played for played in executions if played.created])

    async def reader() -> None:
        for played in waiting:
            result = await _read(channel, scope, played)
            while result.wrong and time.perf_counter() < end:
                await asyncio.sleep(_AGAIN_SECONDS)
                result = await _read(channel, scope, played)
            findings.add(result)

    await asyncio.gather(*(reader() for _ in range(_AT_ONCE)))
    return findings


async def _read(channel: Channel, scope: ProjectDomain, played: Played) -> Findings:
    findings = Findings()
    try:
        await _Reader(channel, scope, played, findings).read()
    except _ReadError as error:
        findings.wrong.append(f"{played.name}: {error}")
    return findings


@dataclass
class _Reader:
    """The reader of one execution."""

    channel: Channel
    scope: ProjectDomain
    played: Played
    findings: Findings

    async def read(self) -> None:
        wanted = expected(self.played)
        actual: dict[Entity, int] = {}
        identifier = WorkflowExecutionIdentifier(
            project=self.scope.project, domain=self.scope.domain, name=self.played.name
        )
        execution = await self._call("GetExecution", WorkflowExecutionGetRequest(id=identifier), Execution)
        actual[Entity()] = execution.closure.phase
        for parent in {entity.parent for entity in wanted if not entity.is_task}:
            request = NodeExecutionListRequest(workflow_execution_id=identifier, unique_parent_id=parent, limit=_PAGE)
            async for node in self._pages("ListNodeExecutions", request, NodeExecutionList, _nodes_of):
                actual[Entity(node.id.node_id, parent)] = node.closure.phase
        for entity in wanted:
            if entity.is_task:
                actual |= await self._task(entity, identifier)
        self._compare(wanted, actual)

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
            phases = [resource.phase for resource in closure.metadata.external_resources]
            done = phases.count(TaskExecution.SUCCEEDED)
            self.findings.entities += SUBTASKS
            if (done, len(phases)) != (SUBTASKS, SUBTASKS):
                self._wrong(f"node {entity.node} has {done} subtasks that succeeded")
        return {entity: closure.phase}

    def _compare(self, wanted: dict[Entity, int], actual: dict[Entity, int]) -> None:
        for entity, phase in wanted.items():
            self.findings.entities += 1
            if actual.get(entity) != phase:
                self._wrong(f"{entity} is in phase {actual.get(entity)} and not in {phase}")
        if not self.played.doubtful and (unknown := actual.keys() - wanted.keys() - {Entity()}):
            self._wrong(f"has entities that were not reported: {sorted(unknown)}")

    def _compare_reasons(self, entity: Entity, actual: list[str]) -> None:
        """Compare the reasons, which add up in the order of the events: one twice or too early is seen here."""
        steps = self.played.play.steps[: self.played.accepted]
        wanted = [step.reason for step in steps if step.entity == entity and step.reason]
        if actual != wanted:
            self._wrong(f"node {entity.node} has the reasons {actual} and not {wanted}")

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
        response = await self.channel.call(SERVICE + method, request.SerializeToString())
        if response.code != OK:
            raise _ReadError(f"{method} returned code {response.code}: {response.message}")
        return kind.FromString(response.body)


def _nodes_of(page: NodeExecutionList) -> Iterator[Any]:
    return iter(page.node_executions)


def _tasks_of(page: TaskExecutionList) -> Iterator[Any]:
    return iter(page.task_executions)
