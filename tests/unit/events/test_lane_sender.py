"""Senders and replicas of executions on a network that loses messages, against the promises of the event path.

The senders and the lane's cursor are the real ones. NATS, the stream and the replicas are models that a random choice
delays, loses, freezes and kills; time is virtual, so that minutes pass in milliseconds.
"""

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from services.contracts.event_batches import AFTER_HEADER, batch_id
from services.events.config import Settings
from services.events.ingest.lane_sender import LaneSender, OutgoingBatch
from services.events.ingest.limits import Limits
from services.executions.events.backlog import FRESH_SECONDS
from services.executions.rules.events.lane_cursor import LaneCursor
from services.kit.errors import Unavailable

LIMITS = Limits.of(Settings(database_url="postgresql://none", nats_url="nats://none"))
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
OK = (b"",)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self._loop.now += timeout
        return super().select(0)


@dataclass
class World:
    """The stream, the database, and replicas of executions that apply batches."""

    chance: random.Random
    cursor: LaneCursor = field(default_factory=lambda: LaneCursor(b"", 0, None))
    applied: list[str] = field(default_factory=list)
    stream: deque[tuple[int, str]] = field(default_factory=deque)
    appended: set[str] = field(default_factory=set)
    sequence: int = 0
    owned: bool = True
    database_up: bool = True
    nats_up: bool = True
    senders: dict[str, LaneSender] = field(default_factory=dict)
    seen_empty_at: float = -1e9
    under_way: list[asyncio.Task[None]] = field(default_factory=list)

    async def pause(self, most: float) -> None:
        await asyncio.sleep(self.chance.random() * most)

    def apply(self, identifier: str) -> None:
        assert identifier not in self.applied, "applied twice"
        self.applied.append(identifier)

    async def direct(self, identifier: str, after: int) -> None:
        """Receive a direct batch, as the owner does."""
        await self.pause(0.01)
        if self.chance.random() < 0.1:
            await self.pause(4.0)  # the owner was frozen, or the message waited in its socket
        loop = asyncio.get_running_loop()
        if loop.time() - self.seen_empty_at >= FRESH_SECONDS:
            if self.stream:
                self.reply(identifier, ())
                return
            self.seen_empty_at = loop.time()
        if not self.database_up:
            self.reply(identifier, ())
        elif self.cursor.has_applied(identifier):
            pass  # its verdicts may not be known any more
        elif not self.cursor.reaches(identifier, after):
            self.reply(identifier, ())
        else:
            self.apply(identifier)
            self.cursor = self.cursor.after_direct_batch(identifier, identifier.encode())
            self.reply(identifier, OK)

    async def consume(self) -> None:
        """Apply the batches of the stream, one after the other."""
        while True:
            await self.pause(0.02)
            if not self.stream or not self.database_up:
                continue
            self.seen_empty_at = -1e9
            sequence, identifier = self.stream[0]
            if not self.cursor.has_applied(identifier):
                self.apply(identifier)
                self.cursor = self.cursor.after_stored_batch(identifier, identifier.encode(), sequence, STARTED)
            if self.chance.random() < 0.9:  # otherwise it is delivered again
                self.stream.popleft()
            self.reply(identifier, OK)

    def reply(self, identifier: str, statuses: tuple[bytes, ...]) -> None:
        if self.nats_up and self.chance.random() < 0.9:
            sender = self.senders[identifier.rpartition("-")[0]]
            asyncio.get_running_loop().call_later(
                self.chance.random() * 0.01, sender.receive_verdicts, identifier, statuses
            )

    async def append(self, batch: OutgoingBatch) -> None:
        """Append as the publisher does: again until it succeeds, once for each id."""
        while True:
            await self.pause(0.01)
            if self.nats_up and batch.identifier not in self.appended:
                self.appended.add(batch.identifier)
                self.sequence += 1
                self.stream.append((self.sequence, batch.identifier))
            if self.nats_up and self.chance.random() < 0.9:
                return
            await asyncio.sleep(0.1)

    async def disturb(self) -> None:
        while True:
            await self.pause(6.0)
            which = self.chance.choice(("owned", "database_up", "nats_up"))
            setattr(self, which, False)
            await self.pause(8.0)
            setattr(self, which, True)


@dataclass
class Network:
    """The connection of one sender."""

    world: World

    async def send(self, _subject: str, payload: bytes, headers: Mapping[str, str], *, reply: str) -> None:
        assert reply
        world = self.world
        if not world.nats_up:
            raise Unavailable("no connection")
        identifier, after = payload.decode(), int(headers[AFTER_HEADER])
        if not world.owned:
            asyncio.get_running_loop().call_soon(world.senders[identifier.rpartition("-")[0]].no_receiver)
        elif world.chance.random() < 0.95:
            world.under_way.append(asyncio.create_task(world.direct(identifier, after)))


async def play(seed: int) -> None:
    world = World(random.Random(seed))  # noqa: S311  # the same choices again for a seed
    background = [asyncio.create_task(work()) for work in (world.consume, world.disturb)]
    acknowledged: dict[str, list[str]] = {}

    async def engine(name: str, senders: list[str]) -> None:
        """Send the events of one execution, each after the one before it was acknowledged, by any sender."""
        done = acknowledged[name] = []
        while len(done) < 12:
            sender = world.chance.choice(senders)
            numbers[sender] += 1
            identifier = batch_id(sender, numbers[sender])
            reply: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
            batch = OutgoingBatch(numbers[sender], identifier, identifier.encode(), {}, reply)
            began = asyncio.get_running_loop().time()
            try:
                await world.senders[sender].send(batch)
                await reply
            except Unavailable:
                pass  # the engine tries again, with the next batch
            except asyncio.CancelledError:
                done.append(identifier)  # OK without a verdict: the batch is in the stream
            else:
                done.append(identifier)
            assert asyncio.get_running_loop().time() - began < 14, "the engine would have given up"
            await world.pause(0.05)

    numbers: dict[str, int] = {}
    for sender in ("a", "b", "c"):
        numbers[sender] = 0
        network: Any = Network(world)
        world.senders[sender] = LaneSender(network, 0, world.append, "verdicts", LIMITS)
    await asyncio.gather(*(engine(f"e{number}", ["a", "b", "c"]) for number in range(4)))
    world.database_up = world.nats_up = world.owned = True
    background[1].cancel()
    world.database_up = world.nats_up = world.owned = True
    while world.stream:  # noqa: ASYNC110  # the model has no signal for it
        await asyncio.sleep(0.1)
    for name, done in acknowledged.items():
        positions = [world.applied.index(identifier) for identifier in done]  # every one is applied
        assert positions == sorted(positions), f"events of {name} are applied out of order"
    background[0].cancel()


@pytest.mark.parametrize("seed", range(60))
def test_every_acknowledged_batch_is_applied_once_and_in_the_order_of_its_execution(seed: int) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play(seed))
