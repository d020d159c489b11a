"""Work beside the event loop: the loop stays free, and only so much is at work at once."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from services.kit.beside import THREADS, Beside
from tests.support.waiting import until


@pytest.fixture
async def beside() -> AsyncIterator[Beside]:
    made = Beside()
    yield made
    made.close()


async def test_the_loop_is_free_while_work_is_done_and_the_rest_waits(beside: Beside) -> None:
    go_on = threading.Event()
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        go_on.wait(30)
        return number

    jobs = [asyncio.create_task(beside.run(work, number)) for number in range(THREADS + 1)]
    await until(lambda: len(begun) == THREADS)
    # The loop got here while all threads are held up; one more has none to begin in.
    assert not any(job.done() for job in jobs)
    go_on.set()
    assert await asyncio.gather(*jobs) == list(range(THREADS + 1))


async def test_what_work_raises_reaches_its_caller(beside: Beside) -> None:
    def work() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await beside.run(work)


async def test_work_whose_caller_has_gone_is_dropped_before_it_begins(beside: Beside) -> None:
    go_on = threading.Event()
    begun: list[str] = []
    held = [asyncio.create_task(beside.run(go_on.wait, 30)) for _ in range(THREADS)]
    waiting = asyncio.create_task(beside.run(begun.append, "late"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    go_on.set()
    await asyncio.gather(*held)
    await beside.run(begun.append, "last")
    assert begun == ["last"]
