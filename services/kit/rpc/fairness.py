"""Budgets, queues and limits that client connections share, so that none of them blocks the others."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from services.kit.errors import ResourceExhausted
from services.kit.process.settings import DEFAULT_INCOMPLETE_BYTES, DEFAULT_REQUEST_IDLE_SECONDS

CONNECTION_HEADER = "x-flyteplane-connection"
"""The header in which the gateway names the client connection of a call: one of its own carries calls of many."""

TOTAL_TIME_FACTOR = 6
"""A request may take this many times as long in total as it may wait for its next bytes."""

LARGE_RESPONSE_BYTES = 4 * 1024 * 1024
"""The largest response that clients of gRPC receive, unless they set another limit."""

# Seconds that a call waits for its client connection to read earlier responses.
_READ_SECONDS = 5.0

_CLIENT_CONNECTION: ContextVar[str | None] = ContextVar("client_connection", default=None)


def set_client_connection(metadata: Mapping[str, str]) -> None:
    """Set the client connection whose call the current task serves."""
    _CLIENT_CONNECTION.set(metadata.get(CONNECTION_HEADER, ""))


def current_client_connection() -> str | None:
    """Return the client connection of the current call: "" without the header, None outside of calls."""
    return _CLIENT_CONNECTION.get()


class FairBudget:
    """A budget of `total` units, such as bytes, shared by client connections.

    A connection may reserve more until it holds as much as is free (the dynamic threshold of switches with a shared
    buffer). In small steps a connection alone gets half of the total, and two get a third each, so that some is free
    for another. A single large reservation may take all that is free.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._held: Counter[Hashable] = Counter()

    def acquire(self, connection: Hashable, size: int) -> bool:
        """Reserve `size` units for `connection`; return False if it would hold more than what is free now."""
        if self._held[connection] + size > self._free:
            return False
        self._held[connection] += size
        self._free -= size
        return True

    def release(self, connection: Hashable, size: int) -> None:
        """Free `size` units of `connection`."""
        self._free += size
        self._held[connection] -= size
        if not self._held[connection]:
            del self._held[connection]


class FairSemaphore:
    """A semaphore of `slots`, at most `per_connection` of them for one connection. Waiting connections take turns.

    A caller may acquire several slots at once. While they are not free, those whose turn is later wait too.
    """

    def __init__(self, slots: int, per_connection: int | None = None) -> None:
        self._free = slots
        self._per_connection = per_connection or slots
        self._held: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[_Waiter]] = OrderedDict()
        self._short = False  # the next waiter needs more slots than are free

    async def acquire(self, connection: Hashable, seconds: float | None = None, size: int = 1) -> None:
        """Acquire `size` slots for `connection`, which must be released; raise TimeoutError after `seconds`."""
        if not self._short and size <= self._free and self._held[connection] + size <= self._per_connection:
            self._grant(connection, size)
            return
        waiter = _Waiter(asyncio.get_running_loop().create_future(), size)
        self._waiting.setdefault(connection, deque()).append(waiter)
        self._grant_waiting()
        try:
            async with asyncio.timeout(seconds):
                await waiter.granted
        except BaseException:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self.release(connection, size)  # they were granted at the same moment
            else:
                waiter.granted.cancel()
                self._grant_waiting()  # to those that waited behind it
            raise

    def held(self, connection: Hashable) -> int:
        """Return how many slots `connection` holds."""
        return self._held.get(connection, 0)

    def release(self, connection: Hashable, size: int = 1) -> None:
        """Release `size` slots of `connection`."""
        self._free += size
        self._held[connection] -= size
        if not self._held[connection]:
            del self._held[connection]
        self._grant_waiting()

    @asynccontextmanager
    async def slot(self, connection: Hashable) -> AsyncIterator[None]:
        """Hold a slot of `connection` for a block."""
        await self.acquire(connection)
        try:
            yield
        finally:
            self.release(connection)

    def _grant_waiting(self) -> None:
        """Grant slots to waiting connections, one after the other, until no more can be granted."""
        self._short = False
        granted = True
        while granted and self._free:
            granted = False
            for connection, queue in list(self._waiting.items()):
                while queue and queue[0].granted.done():
                    queue.popleft()
                if queue and self._held[connection] + queue[0].size <= self._per_connection:
                    if queue[0].size > self._free:
                        self._short = True
                        return
                    waiter = queue.popleft()
                    self._grant(connection, waiter.size)
                    waiter.granted.set_result(None)
                    self._waiting.move_to_end(connection)
                    granted = True
                if not queue:
                    del self._waiting[connection]

    def _grant(self, connection: Hashable, size: int) -> None:
        self._free -= size
        self._held[connection] += size


class _Waiter(NamedTuple):
    granted: asyncio.Future[None]
    size: int


class UnreadResponses:
    """Bytes of responses that clients have not read yet, by client connection, and the calls that wait for that.

    A connection may have `limit` bytes unread, but no more than what is left of `total`.
    """

    def __init__(self, limit: int, total: int) -> None:
        self._limit = limit
        self._free = total
        self._bytes: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, asyncio.Future[None]] = {}

    def add(self, connection: Hashable, size: int) -> None:
        """Count `size` bytes more, or fewer if it is negative."""
        self._free -= size
        unread = self._bytes[connection] = self._bytes[connection] + size
        if not unread:
            del self._bytes[connection]
        if self._waiting and size < 0:
            for ready in [waiting for waiting in self._waiting if not self.exceeded(waiting)]:
                self._waiting.pop(ready).set_result(None)

    @property
    def left(self) -> int:
        """What is left of the total; negative when it is exceeded."""
        return self._free

    def exceeded(self, connection: Hashable, under_way: int = 0) -> bool:
        """Return whether `connection` must read before a further call is served.

        Args:
            connection: the client connection; None for work outside of calls, which has no responses.
            under_way: its calls whose responses are being made. They count as unread where memory is short: a new
                connection would otherwise make many responses before the first of them is found unread.
        """
        if connection is None:
            return False
        unread = self._bytes.get(connection, 0)
        if unread > min(self._limit, max(self._free, 0)):
            return True
        return under_way > 0 and unread + under_way * LARGE_RESPONSE_BYTES > max(self._free, 0)

    def call_ended(self, connection: Hashable) -> None:
        """Let a waiting call of `connection` check again, as one that was under way has ended."""
        if self._waiting and (waiting := self._waiting.pop(connection, None)) is not None:
            waiting.set_result(None)

    async def wait(self, connection: Hashable, seconds: float) -> None:
        """Wait until `connection` is below the limit; raise TimeoutError after `seconds`."""
        waiting = self._waiting.setdefault(connection, asyncio.get_running_loop().create_future())
        async with asyncio.timeout(seconds):
            await asyncio.shield(waiting)


# A connection may have four of the largest responses unread, and all connections together as many as eight that do.
UNREAD_RESPONSES = UnreadResponses(16 * 1024 * 1024, 128 * 1024 * 1024)
"""The unread responses of this process."""


async def acquire_to_respond(
    semaphore: FairSemaphore,
    acquire: Callable[[], Awaitable[None]],
    seconds: float,
    release: Callable[[Hashable], None] | None = None,
) -> None:
    """Acquire a slot for a call that makes a response, once the client has read most of the earlier ones.

    Args:
        semaphore: where the slot is.
        acquire: acquires a slot there for the current client connection.
        seconds: how long the client may take to read.
        release: releases what `acquire` has acquired, unless that is one slot of `semaphore`.

    Raises:
        ResourceExhausted: the client connection does not read its responses.
    """
    connection = current_client_connection()
    await acquire()
    while UNREAD_RESPONSES.exceeded(connection, semaphore.held(connection) - 1):
        (release or semaphore.release)(connection)
        try:
            await UNREAD_RESPONSES.wait(connection, seconds)
        except TimeoutError:
            raise ResourceExhausted("too many responses are unread") from None
        await acquire()


@asynccontextmanager
async def slot_for_response(semaphore: FairSemaphore) -> AsyncIterator[None]:
    """Hold a slot for a block that makes a large response; raise ResourceExhausted as `acquire_to_respond` does."""
    connection = current_client_connection()
    await acquire_to_respond(semaphore, partial(semaphore.acquire, connection), _READ_SECONDS)
    try:
        yield
    finally:
        semaphore.release(connection)
        UNREAD_RESPONSES.call_ended(connection)


@dataclass(frozen=True)
class IncompleteRequestLimits:
    """Limits of incomplete requests: those of which only some bytes have been received.

    Attributes:
        total: bytes that all of them in the process may hold.
        seconds: how long one may wait for its next bytes (`IncompleteRequests.seconds`).
        budget: the budget of `total` bytes, shared by client connections.
    """

    total: int = DEFAULT_INCOMPLETE_BYTES
    seconds: float = DEFAULT_REQUEST_IDLE_SECONDS
    budget: FairBudget = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", FairBudget(self.total))
