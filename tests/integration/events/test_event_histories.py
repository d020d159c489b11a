"""Random histories through two replicas of events and two of executions, of which one is killed now and then.

Each verdict and the rows in the end must be those of the model, which applies the events one after the other.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.executions.events.batches import EventBatchConsumer
from services.kit.db.database import Database
from tests.integration.executions.test_phase_counts import assert_counted
from tests.support.event_histories import Request, any_request, node_request, task_request
from tests.support.event_model import Model
from tests.support.event_path import Executions, verdict_of
from tests.support.event_reading import Reading
from tests.support.event_values import MAX_OUTPUT_BYTES
from tests.support.parts import Parts, service
from tests.support.waiting import until

# The batch of a replica that is killed is delivered again after three seconds; no caller may receive OK before.
VERDICT_WAIT_SECONDS = 14.0
ENOUGH_SECONDS = 60.0


@pytest.fixture(scope="module")
async def executions(parts: Parts) -> Executions:
    return await Executions.migrated(parts, "test_event_histories")


@pytest.fixture(scope="module")
async def admins(parts: Parts, executions: Executions) -> AsyncIterator[Sequence[AdminServiceStub]]:
    """Two replicas of the events service."""
    settings = {
        "objects_url": executions.objects.uri(),
        "verdict_wait_seconds": VERDICT_WAIT_SECONDS,
        "max_output_bytes": MAX_OUTPUT_BYTES,
    }
    async with (
        service("events", parts, "test_histories_events_a", **settings) as one,
        service("events", parts, "test_histories_events_b", **settings) as other,
    ):
        yield AdminServiceStub(one.channel), AdminServiceStub(other.channel)


@dataclass
class Play:
    """A sender of histories that compares each verdict with a model of the execution."""

    admins: Sequence[AdminServiceStub]
    executions: Executions
    models: dict[str, Model] = field(default_factory=dict)
    compared: int = 0
    differences: list[str] = field(default_factory=list)

    def reached(self, compared: int) -> bool:
        return self.compared >= compared

    def create(self) -> str:
        name = self.executions.create()
        model = self.models[name] = Model(MAX_OUTPUT_BYTES, self.executions.objects.uri("metadata"))
        model.create(f"p/d/{name}", "", {}, {})
        return name

    async def in_order(self, seed: int, length: int) -> None:
        """Send one event after the other, each to either replica; many are repeated or late."""
        pick, name = seeded(seed), self.create()
        for _ in range(length):
            await self._once(pick, name, any_request(pick, [name]))

    async def doubled(self, seed: int, length: int) -> None:
        """Send each event to both replicas at once, like a retry while the first attempt is in flight."""
        pick, name = seeded(seed), self.create()
        for _ in range(length):
            request = any_request(pick, [name])
            verdicts = await asyncio.gather(*(verdict_of(admin, request.event) for admin in self.admins))
            expected = [self.models[name].take(request) for _ in self.admins]
            self._compare(request, sorted(map(str, verdicts)), sorted(map(str, expected)))

    async def many_senders(self, seed: int, length: int) -> None:
        """Send events of one execution, with one sender for each of its independent nodes."""
        name = self.create()
        await asyncio.gather(*(self._node(seeded(f"{seed} {node}"), name, f"m{node}", length) for node in range(8)))

    async def _node(self, pick: Random, name: str, node: str, length: int) -> None:
        for _ in range(length):
            request: Request = task_request(pick, name, node)
            if pick.randrange(3) == 0:
                request = node_request(pick, name, node)
                for parent in ("parent_node_metadata", "parent_task_metadata"):
                    request.event.ClearField(parent)
            await self._once(pick, name, request)

    async def _once(self, pick: Random, name: str, request: Request) -> None:
        verdict = await verdict_of(pick.choice(self.admins), request.event)
        self._compare(request, str(verdict), str(self.models[name].take(request)))

    def _compare(self, request: Request, verdict: object, expected: object) -> None:
        self.compared += 1
        if verdict != expected:
            self.differences.append(f"{verdict} instead of {expected} for {request}")


def seeded(seed: int | str) -> Random:
    return Random(seed)  # noqa: S311  # the same history at every run


async def kill(replica: EventBatchConsumer) -> None:
    """Disconnect like a killed process: the current batch is rolled back or not acknowledged, and not returned."""
    await replica._bus._client.close()


async def test_histories_end_as_in_the_model(admins: Sequence[AdminServiceStub], executions: Executions) -> None:
    play = Play(admins, executions)
    async with AsyncExitStack() as replicas:
        running = [await replicas.enter_async_context(executions.replica()) for _ in range(2)]
        plays = asyncio.gather(
            *(play.in_order(seed, 50) for seed in range(10)),
            *(play.doubled(seed, 25) for seed in range(100, 106)),
            play.many_senders(200, 20),
        )
        for compared in (150, 450):
            await until(partial(play.reached, compared), ENOUGH_SECONDS)
            await kill(running.pop(0))
            running.append(await replicas.enter_async_context(executions.replica()))
        await plays
    assert play.differences == []
    db = await Database.open(executions.url)
    reading = Reading(executions, db)
    for name, model in play.models.items():
        await reading.assert_equals(name, model)
    assert_counted(executions)
    await db.close()
