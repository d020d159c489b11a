"""Work beside the event loop: the loop stays free, and only so much is at work at once."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from services.kit.rpc.cpu_pool import PARSED_AT_ONCE_BYTES, THREADS, CpuPool
from services.kit.rpc.fairness import CONNECTION, set_client_connection
from tests.support.waiting import until


@pytest.fixture
async def cpu_pool() -> AsyncIterator[CpuPool]:
    made = CpuPool()
    yield made
    made.close()


async def test_the_loop_is_free_while_work_is_done_and_the_rest_waits(cpu_pool: CpuPool) -> None:
    go_on = threading.Event()
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        go_on.wait(30)
        return number

    jobs = [asyncio.create_task(cpu_pool.run(work, number)) for number in range(THREADS + 1)]
    await until(lambda: len(begun) == THREADS)
    # The loop got here while all threads are held up; one more has none to begin in.
    assert not any(job.done() for job in jobs)
    go_on.set()
    assert await asyncio.gather(*jobs) == list(range(THREADS + 1))


async def test_what_work_raises_reaches_its_caller(cpu_pool: CpuPool) -> None:
    def work() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await cpu_pool.run(work)


async def test_work_whose_caller_has_gone_is_dropped_before_it_begins(cpu_pool: CpuPool) -> None:
    go_on = threading.Event()
    begun: list[str] = []
    held = [asyncio.create_task(cpu_pool.run(go_on.wait, 30)) for _ in range(THREADS)]
    waiting = asyncio.create_task(cpu_pool.run(begun.append, "late"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    go_on.set()
    await asyncio.gather(*held)
    await cpu_pool.run(begun.append, "last")
    assert begun == ["last"]


async def test_connections_take_turns_at_the_threads(cpu_pool: CpuPool) -> None:
    go_on = threading.Event()
    begun: list[str] = []

    def work(peer: str) -> None:
        begun.append(peer)
        go_on.wait(30)

    async def run_for(peer: str) -> None:
        set_client_connection({CONNECTION: peer})
        await cpu_pool.run(work, peer)

    flood = [asyncio.create_task(run_for("flood")) for _ in range(50)]
    await until(lambda: len(begun) == THREADS)
    other = asyncio.create_task(run_for("other"))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(other, *flood)
    assert "other" in begun[: 2 * THREADS]


async def test_a_thread_whose_caller_has_gone_is_free_when_its_work_is_done(cpu_pool: CpuPool) -> None:
    go_on = threading.Event()
    begun: list[str] = []
    left = [asyncio.create_task(cpu_pool.run(go_on.wait, 30)) for _ in range(THREADS)]
    await asyncio.sleep(0)
    for job in left:
        job.cancel()
    await asyncio.wait(left)
    late = asyncio.create_task(cpu_pool.run(begun.append, "late"))
    await asyncio.sleep(0)
    assert begun == []
    go_on.set()
    await late
    assert begun == ["late"]


async def test_large_content_is_parsed_in_a_thread(cpu_pool: CpuPool) -> None:
    async def parsed_here(size: int) -> bool:
        return await cpu_pool.parse(bytes(size), lambda _: threading.current_thread()) is threading.current_thread()

    assert await parsed_here(PARSED_AT_ONCE_BYTES)
    assert not await parsed_here(PARSED_AT_ONCE_BYTES + 1)
