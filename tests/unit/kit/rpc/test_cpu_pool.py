"""The CPU pool: the event loop continues while a limited number of threads work."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from services.kit.rpc.cpu_pool import MOST_LOOP_BYTES, THREADS, CpuPool
from services.kit.rpc.fairness import CONNECTION_HEADER, set_client_connection
from tests.support.waiting import until


@pytest.fixture
async def cpu_pool() -> AsyncIterator[CpuPool]:
    pool = CpuPool()
    yield pool
    pool.close()


async def test_the_loop_continues_while_work_runs_and_further_work_waits(cpu_pool: CpuPool) -> None:
    may_finish = threading.Event()
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        may_finish.wait(30)
        return number

    jobs = [asyncio.create_task(cpu_pool.run(work, number)) for number in range(THREADS + 1)]
    await until(lambda: len(started) == THREADS)
    # The loop continued while all threads are busy; the last work has no thread to start in.
    assert not any(job.done() for job in jobs)
    may_finish.set()
    assert await asyncio.gather(*jobs) == list(range(THREADS + 1))


async def test_an_exception_of_work_reaches_its_caller(cpu_pool: CpuPool) -> None:
    def work() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await cpu_pool.run(work)


async def test_queued_work_is_dropped_when_its_caller_is_cancelled(cpu_pool: CpuPool) -> None:
    may_finish = threading.Event()
    started: list[str] = []
    running = [asyncio.create_task(cpu_pool.run(may_finish.wait, 30)) for _ in range(THREADS)]
    waiting = asyncio.create_task(cpu_pool.run(started.append, "late"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    may_finish.set()
    await asyncio.gather(*running)
    await cpu_pool.run(started.append, "last")
    assert started == ["last"]


async def test_client_connections_take_turns_at_the_threads(cpu_pool: CpuPool) -> None:
    may_finish = threading.Event()
    started: list[str] = []

    def work(connection: str) -> None:
        started.append(connection)
        may_finish.wait(30)

    async def run_for(connection: str) -> None:
        set_client_connection({CONNECTION_HEADER: connection})
        await cpu_pool.run(work, connection)

    flood = [asyncio.create_task(run_for("flood")) for _ in range(50)]
    await until(lambda: len(started) == THREADS)
    other = asyncio.create_task(run_for("other"))
    await asyncio.sleep(0)
    may_finish.set()
    await asyncio.gather(other, *flood)
    assert "other" in started[: 2 * THREADS]


async def test_a_thread_of_a_cancelled_caller_is_free_when_its_work_is_done(cpu_pool: CpuPool) -> None:
    may_finish = threading.Event()
    started: list[str] = []
    cancelled = [asyncio.create_task(cpu_pool.run(may_finish.wait, 30)) for _ in range(THREADS)]
    await asyncio.sleep(0)
    for job in cancelled:
        job.cancel()
    await asyncio.wait(cancelled)
    late = asyncio.create_task(cpu_pool.run(started.append, "late"))
    await asyncio.sleep(0)
    assert started == []
    may_finish.set()
    await late
    assert started == ["late"]


async def test_large_content_is_parsed_in_a_thread(cpu_pool: CpuPool) -> None:
    async def parsed_on_loop(size: int) -> bool:
        return await cpu_pool.parse(bytes(size), lambda _: threading.current_thread()) is threading.current_thread()

    assert await parsed_on_loop(MOST_LOOP_BYTES)
    assert not await parsed_on_loop(MOST_LOOP_BYTES + 1)


async def test_what_failed_work_used_is_freed_at_once(cpu_pool: CpuPool) -> None:
    class Large:
        pass

    def work(_: Large) -> None:
        raise ValueError

    large = Large()
    freed = weakref.ref(large)
    gc.disable()
    try:
        with pytest.raises(ValueError):  # noqa: PT011  # it has no message
            await cpu_pool.run(work, large)
        del large
        await asyncio.sleep(0)
        assert freed() is None
    finally:
        gc.enable()
