"""Sharing what a process has among the connections of its clients, so that one of them cannot keep others out."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from services.kit.process.settings import DEFAULT_REQUEST_IDLE_SECONDS, DEFAULT_UNFINISHED_BYTES

CONNECTION = "x-flyteplane-connection"
"""The header in which the gateway tells a client's connection: it carries the calls of many over one of its own."""

AS_A_WHOLE = 6
"""A request that moves may take so many times as long as one may rest."""

_PEER: ContextVar[str | None] = ContextVar("peer", default=None)


def set_client_connection(metadata: Mapping[str, str]) -> None:
    """Note whose call the current task serves."""
    _PEER.set(metadata.get(CONNECTION, ""))


def current_client_connection() -> str | None:
    """Return the connection whose call the current task serves, "" if nobody told; None for the process's own work."""
    return _PEER.get()


class FairBudget:
    """Bytes that may be held at a time, `total` in all.

    A peer may hold as much as is left for others (the dynamic threshold of switches with a shared buffer): a lone one
    half of all, two of them a third each. So there is always something left for one more.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._held: Counter[Hashable] = Counter()

    def take(self, peer: Hashable, size: int) -> bool:
        """Hold `size` bytes for `peer`; answers False when its share does not allow that."""
        if self._held[peer] + size > self._free:
            return False
        self._held[peer] += size
        self._free -= size
        return True

    def give(self, peer: Hashable, size: int) -> None:
        """Hold `size` bytes less for `peer`."""
        self._free += size
        self._held[peer] -= size
        if not self._held[peer]:
            del self._held[peer]


class FairSemaphore:
    """Places for a number of callers at a time, `of_each` for those of one peer. Peers that wait take turns."""

    def __init__(self, places: int, of_each: int | None = None) -> None:
        self._free = places
        self._of_each = of_each or places
        self._held: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, peer: Hashable, seconds: float | None = None) -> None:
        """Take a place for `peer`, which must be given back; raises TimeoutError when it gets none in `seconds`."""
        if self._free and self._held[peer] < self._of_each:
            self._hold(peer)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(peer, deque()).append(turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give(peer)  # it came at the same moment
            else:
                turn.cancel()  # `give` passes over it
            raise

    def give(self, peer: Hashable) -> None:
        """Give back a place of `peer`."""
        self._free += 1
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]
        for other, queue in list(self._waiting.items()):
            while queue and queue[0].done():
                queue.popleft()
            if queue and self._free and self._held[other] < self._of_each:
                self._hold(other)
                queue.popleft().set_result(None)
                self._waiting.move_to_end(other)
            if not queue:
                del self._waiting[other]
            if not self._free:
                return

    def _hold(self, peer: Hashable) -> None:
        self._free -= 1
        self._held[peer] += 1


class UnreadResponses:
    """Bytes of answers that wait for their readers, by peer, and calls that wait until there are fewer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, asyncio.Future[None]] = {}

    def grow(self, peer: Hashable, size: int) -> None:
        """Count `size` bytes more, or fewer if it is negative."""
        left = self._bytes[peer] = self._bytes[peer] + size
        if left <= self._most and peer in self._waiting:
            self._waiting.pop(peer).set_result(None)
        if not left:
            del self._bytes[peer]

    def too_many(self, peer: Hashable) -> bool:
        """Tell whether `peer` should read before more is answered to it."""
        return peer in self._bytes and self._bytes[peer] > self._most

    async def fewer(self, peer: Hashable, seconds: float) -> None:
        """Wait until `peer` has read; raises TimeoutError."""
        waiting = self._waiting.setdefault(peer, asyncio.get_running_loop().create_future())
        async with asyncio.timeout(seconds):
            await asyncio.shield(waiting)


# Some of the largest lists that clients take.
UNREAD_RESPONSES = UnreadResponses(16 * 1024 * 1024)
"""Of this process."""


@dataclass(frozen=True)
class ArrivalLimits:
    """What requests that have begun and have not arrived may hold, in all of a process, and how they stall."""

    total: int = DEFAULT_UNFINISHED_BYTES
    seconds: float = DEFAULT_REQUEST_IDLE_SECONDS
    shares: FairBudget = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", FairBudget(self.total))
