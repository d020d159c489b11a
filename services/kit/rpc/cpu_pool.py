"""Work that keeps the processor busy, done in threads beside the event loop: compiling, comparing, checking.

What is large takes a second or so, and other calls should not wait for it. Threads take turns with the loop, for an
interpreter runs one at a time; the fewer there are, the sooner the loop's turn comes: it waits some 5 ms with one at
work, 15 ms with two, 300 ms with six, and all of them together get no more done. A process of its own would have to be
sent everything and to send it back, and is not worth having for what comes rarely.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from services.kit.rpc.fairness import FairSemaphore, current_client_connection

# Two, so that a small piece of work passes a large one.
THREADS = 2
# Of a message that is parsed on the event loop: a millisecond or so, some 10 ms for many small entries of a map.
PARSED_AT_ONCE_BYTES = 32 * 1024

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class CpuPool:
    """The threads. Further work waits until it is the turn of its connection, and is dropped when its caller goes."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="beside")
        self._turns = FairSemaphore(THREADS)

    async def run(self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Answer what `work` returns; raises what it raises."""
        peer = current_client_connection()
        await self._turns.take(peer)
        running = asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))
        # A thread cannot be stopped: it works on when its caller has gone, and is free only afterwards.
        running.add_done_callback(lambda _: self._turns.give(peer))
        return await asyncio.shield(running)

    async def parse(self, content: bytes, work: Callable[[bytes], Result]) -> Result:
        """Return what `work` makes of a serialized message, in a thread if it is large; raises what `work` raises."""
        return work(content) if len(content) <= PARSED_AT_ONCE_BYTES else await self.run(work, content)

    def close(self) -> None:
        """Take no more work, and drop what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
