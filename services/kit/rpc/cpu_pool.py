"""A pool of threads for CPU-bound work that would block the event loop: compiling, comparing, checking.

Large work takes about a second, and other calls must not wait for it. The interpreter runs one thread at a time, so
fewer threads let the event loop continue sooner: it waits some 5 ms with one busy thread, 15 ms with two, 300 ms with
six, and more threads do not get more done. A separate process would need all data sent to it and back; such work is too
rare to be worth that.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from services.kit.rpc.fairness import FairSemaphore, current_client_connection

# Two, so that small work overtakes large work.
THREADS = 2
# The largest message that is parsed or checked on the event loop. That takes about a millisecond, some 10 ms for a map
# of many small entries. Larger ones go to the pool.
MOST_LOOP_BYTES = 32 * 1024
# The largest request that is checked and compiled on the event loop, in less than a millisecond usually.
MOST_QUICK_BYTES = 8 * 1024

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class CpuPool:
    """The threads. Further work queues by client connection, and is dropped when its call is cancelled."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cpu-pool")
        self._semaphore = FairSemaphore(THREADS)

    async def run(self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Return what `work` returns; raise what it raises."""
        connection = current_client_connection()
        await self._semaphore.acquire(connection)
        running = asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))
        # A thread cannot be stopped: after a cancellation it continues, and its slot is free only when it is done.
        running.add_done_callback(lambda _: self._semaphore.release(connection))
        try:
            return await asyncio.shield(running)
        finally:
            # An exception refers to this frame, and so would be kept until a garbage collection, with all its frames
            # and the large request in them.
            del running

    async def run_unless_small(
        self, size: int, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Return what `work` returns, raise what it raises; it runs on the event loop if `size` bytes are few.

        Two changes of threads take longer than most checks.
        """
        return work(*args, **kwargs) if size <= MOST_QUICK_BYTES else await self.run(work, *args, **kwargs)

    async def parse(self, content: bytes, work: Callable[[bytes], Result]) -> Result:
        """Return what `work` returns for a serialized message, in a thread if it is large; raise what `work` raises."""
        return work(content) if len(content) <= MOST_LOOP_BYTES else await self.run(work, content)

    def close(self) -> None:
        """Refuse further work, and drop what is queued."""
        self._threads.shutdown(wait=False, cancel_futures=True)
