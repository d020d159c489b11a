"""When the next batch leaves a lane, told by a sender that answers when the test says so."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from services.contracts.event_batches import BatchedEvent, Kind
from services.events.config import Settings
from services.events.ingest.batcher import AHEAD, Batcher, Limits
from services.kit.errors import Unavailable

VERDICT_WAIT = 0.4


@dataclass
class Recorder:
    """Puts nothing on file; `sent` are the batches that left, `answers` the futures of their verdicts."""

    limits: Limits
    answered: bool = True
    failure: Exception | None = None
    sent: list[Sequence[BatchedEvent]] = field(default_factory=list)
    answers: list[asyncio.Future[tuple[bytes, ...]]] = field(default_factory=list)

    async def send(self, _lane: int, events: Sequence[BatchedEvent]) -> asyncio.Future[tuple[bytes, ...]]:
        if self.failure is not None:
            raise self.failure
        self.sent.append(events)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]

    def answer(self, number: int) -> None:
        self.answers[number].set_result((b"",) * len(self.sent[number]))

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.sent]


def lane() -> tuple[Batcher, Recorder]:
    settings = Settings(database_url="postgresql://none", nats_url="nats://none", verdict_wait_seconds=VERDICT_WAIT)
    recorder = Recorder(Limits.of(settings))
    return Batcher(recorder, 0), recorder


def takes(into: Batcher, events: int) -> list[asyncio.Task[bytes]]:
    marks = (b"%d" % number for number in range(events))
    return [asyncio.create_task(into.take(BatchedEvent(Kind.NODE, b"", mark=mark))) for mark in marks]


async def turns(condition: Callable[[], bool]) -> bool:
    """Let others run for a while; answers whether `condition` came true."""
    for _ in range(50):
        await asyncio.sleep(0)
        if condition():
            return True
    return False


async def test_a_lone_event_leaves_at_once_and_the_next_ones_together_when_it_is_answered() -> None:
    tested, recorder = lane()
    first = takes(tested, 1)
    assert await turns(lambda: recorder.sizes == [1])
    others = takes(tested, AHEAD - 1)
    assert not await turns(lambda: len(recorder.sent) > 1)
    recorder.answer(0)
    assert await turns(lambda: recorder.sizes == [1, AHEAD - 1])
    recorder.answer(1)
    assert await asyncio.gather(*first, *others) == [b""] * AHEAD


async def test_a_large_batch_leaves_while_one_is_on_its_way_but_not_while_two_are() -> None:
    tested, recorder = lane()
    waiting = takes(tested, 1)
    assert await turns(lambda: recorder.sizes == [1])
    waiting += takes(tested, AHEAD)
    assert await turns(lambda: recorder.sizes == [1, AHEAD])
    waiting += takes(tested, 2 * AHEAD)
    assert not await turns(lambda: len(recorder.sent) > 2)
    recorder.answer(0)
    assert await turns(lambda: recorder.sizes == [1, AHEAD, 2 * AHEAD])
    recorder.answer(1)
    recorder.answer(2)
    assert await asyncio.gather(*waiting) == [b""] * len(waiting)


async def test_while_nobody_answers_events_leave_after_a_part_of_the_wait_and_are_told_ok_after_all_of_it() -> None:
    tested, recorder = lane()
    first, second = takes(tested, 1), takes(tested, 1)
    assert await turns(lambda: recorder.sizes == [2])
    third = takes(tested, 1)
    async with asyncio.timeout(VERDICT_WAIT):
        while len(recorder.sent) < 2:  # noqa: ASYNC110  # the lane tells nobody
            await asyncio.sleep(0.01)
    assert not recorder.answered
    assert await asyncio.gather(*first, *second, *third) == [b""] * 3


async def test_while_executions_is_away_events_leave_in_large_batches() -> None:
    tested, recorder = lane()
    recorder.answered = False
    waiting = takes(tested, 1)
    assert await turns(lambda: recorder.sizes == [1])
    waiting += takes(tested, 2)
    assert not await turns(lambda: len(recorder.sent) > 1)
    waiting += takes(tested, recorder.limits.batch_events - 2)
    assert await turns(lambda: recorder.sizes == [1, recorder.limits.batch_events])
    waiting += takes(tested, 3)
    assert not await turns(lambda: len(recorder.sent) > 2)
    assert await asyncio.gather(*waiting) == [b""] * len(waiting)
    assert recorder.sizes == [1, recorder.limits.batch_events, 3]


async def test_what_collects_leaves_as_soon_as_executions_answers_again() -> None:
    tested, recorder = lane()
    recorder.answered = False
    waiting = takes(tested, 1)
    assert await turns(lambda: recorder.sizes == [1])
    waiting += takes(tested, 1)
    assert not await turns(lambda: len(recorder.sent) > 1)
    recorder.answered = True  # as the sender does when it hears verdicts
    recorder.answer(0)
    assert await turns(lambda: recorder.sizes == [1, 1])
    recorder.answer(1)
    assert await asyncio.gather(*waiting) == [b""] * 2


@pytest.mark.parametrize("failure", [Unavailable("no stream"), ValueError("a fault of ours")])
async def test_whoever_is_not_on_file_is_told_and_the_next_ones_are_sent(failure: Exception) -> None:
    tested, recorder = lane()
    recorder.failure = failure
    for error in await asyncio.gather(*takes(tested, 3), return_exceptions=True):
        assert isinstance(error, Unavailable)
    recorder.failure = None
    later = takes(tested, 2)
    assert await turns(lambda: recorder.sizes == [2])
    recorder.answer(0)
    assert await asyncio.gather(*later) == [b""] * 2
