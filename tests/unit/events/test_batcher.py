"""When a batcher sends the next batch, with a sender whose verdicts come when the test requests them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from services.contracts.event_batches import BatchedEvent, Kind
from services.events.config import Settings
from services.events.ingest.batcher import SEND_AHEAD_EVENTS, Batcher
from services.events.ingest.limits import Limits
from services.kit.errors import Unavailable

VERDICT_WAIT = 0.4


@dataclass
class Recorder:
    """A sender that only records: `sent` are the batches, `replies` the futures of their verdicts."""

    limits: Limits
    executions_keeps_up: bool = True
    failure: Exception | None = None
    sent: list[Sequence[BatchedEvent]] = field(default_factory=list)
    replies: list[asyncio.Future[tuple[bytes, ...]]] = field(default_factory=list)

    async def send_batch(self, _lane: int, events: Sequence[BatchedEvent]) -> asyncio.Future[tuple[bytes, ...]]:
        if self.failure is not None:
            raise self.failure
        self.sent.append(events)
        loop = asyncio.get_running_loop()
        self.replies.append(loop.create_future())
        loop.call_later(VERDICT_WAIT, self.replies[-1].cancel)
        return self.replies[-1]

    def reply(self, number: int) -> None:
        self.replies[number].set_result((b"",) * len(self.sent[number]))

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.sent]


def batcher_and_recorder() -> tuple[Batcher, Recorder]:
    settings = Settings(database_url="postgresql://none", nats_url="nats://none")
    recorder = Recorder(replace(Limits.of(settings), verdict_wait=VERDICT_WAIT))
    return Batcher(recorder, 0), recorder


def record(batcher: Batcher, events: int) -> list[asyncio.Task[bytes]]:
    fingerprints = (b"%d" % number for number in range(events))
    return [
        asyncio.create_task(batcher.record(BatchedEvent(Kind.NODE, b"", fingerprint=fingerprint)))
        for fingerprint in fingerprints
    ]


async def comes_true(condition: Callable[[], bool]) -> bool:
    """Let other tasks run for a while and return whether `condition` came true."""
    for _ in range(50):
        await asyncio.sleep(0)
        if condition():
            return True
    return False


async def test_a_lone_event_is_sent_at_once_and_the_next_ones_together_after_its_verdict() -> None:
    batcher, recorder = batcher_and_recorder()
    first = record(batcher, 1)
    assert await comes_true(lambda: recorder.sizes == [1])
    others = record(batcher, SEND_AHEAD_EVENTS - 1)
    assert not await comes_true(lambda: len(recorder.sent) > 1)
    recorder.reply(0)
    assert await comes_true(lambda: recorder.sizes == [1, SEND_AHEAD_EVENTS - 1])
    recorder.reply(1)
    assert await asyncio.gather(*first, *others) == [b""] * SEND_AHEAD_EVENTS


async def test_a_large_batch_is_sent_while_one_is_in_flight_but_not_while_two_are() -> None:
    batcher, recorder = batcher_and_recorder()
    waiting = record(batcher, 1)
    assert await comes_true(lambda: recorder.sizes == [1])
    waiting += record(batcher, SEND_AHEAD_EVENTS)
    assert await comes_true(lambda: recorder.sizes == [1, SEND_AHEAD_EVENTS])
    waiting += record(batcher, 2 * SEND_AHEAD_EVENTS)
    assert not await comes_true(lambda: len(recorder.sent) > 2)
    recorder.reply(0)
    assert await comes_true(lambda: recorder.sizes == [1, SEND_AHEAD_EVENTS, 2 * SEND_AHEAD_EVENTS])
    recorder.reply(1)
    recorder.reply(2)
    assert await asyncio.gather(*waiting) == [b""] * len(waiting)


async def test_events_without_verdicts_are_sent_after_a_part_of_the_wait_and_return_ok_after_all_of_it() -> None:
    batcher, recorder = batcher_and_recorder()
    first, second = record(batcher, 1), record(batcher, 1)
    assert await comes_true(lambda: recorder.sizes == [2])
    third = record(batcher, 1)
    async with asyncio.timeout(VERDICT_WAIT):
        while len(recorder.sent) < 2:  # noqa: ASYNC110  # the batcher has no signal for it
            await asyncio.sleep(0.01)
    assert not recorder.executions_keeps_up
    assert await asyncio.gather(*first, *second, *third) == [b""] * 3


async def test_events_are_sent_in_large_batches_while_executions_is_down() -> None:
    batcher, recorder = batcher_and_recorder()
    recorder.executions_keeps_up = False
    waiting = record(batcher, 1)
    assert await comes_true(lambda: recorder.sizes == [1])
    waiting += record(batcher, 2)
    assert not await comes_true(lambda: len(recorder.sent) > 1)
    waiting += record(batcher, recorder.limits.batch_events - 2)
    assert await comes_true(lambda: recorder.sizes == [1, recorder.limits.batch_events])
    waiting += record(batcher, 3)
    assert not await comes_true(lambda: len(recorder.sent) > 2)
    assert await asyncio.gather(*waiting) == [b""] * len(waiting)
    assert recorder.sizes == [1, recorder.limits.batch_events, 3]


async def test_collected_events_are_sent_as_soon_as_executions_responds_again() -> None:
    batcher, recorder = batcher_and_recorder()
    recorder.executions_keeps_up = False
    waiting = record(batcher, 1)
    assert await comes_true(lambda: recorder.sizes == [1])
    waiting += record(batcher, 1)
    assert not await comes_true(lambda: len(recorder.sent) > 1)
    recorder.executions_keeps_up = True  # as the publisher does when it receives verdicts
    recorder.reply(0)
    assert await comes_true(lambda: recorder.sizes == [1, 1])
    recorder.reply(1)
    assert await asyncio.gather(*waiting) == [b""] * 2


@pytest.mark.parametrize("failure", [Unavailable("no stream"), ValueError("a fault of ours")])
async def test_events_that_cannot_be_appended_are_unavailable_and_the_next_ones_are_sent(failure: Exception) -> None:
    batcher, recorder = batcher_and_recorder()
    recorder.failure = failure
    for error in await asyncio.gather(*record(batcher, 3), return_exceptions=True):
        assert isinstance(error, Unavailable)
    recorder.failure = None
    later = record(batcher, 2)
    assert await comes_true(lambda: recorder.sizes == [2])
    recorder.reply(0)
    assert await asyncio.gather(*later) == [b""] * 2
