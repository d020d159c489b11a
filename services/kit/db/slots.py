"""The slots of a database: which calls may use one of its connections now."""

import asyncio
from collections.abc import Hashable

from services.kit.rpc.fairness import FairSemaphore

# Connections to the database that the calls of one client connection leave to those of others. A client that
# used these two as well would not get more done.
_LEFT_FREE = 2
# How many of the slots lists may have together. Filters and rows of clients decide how long a list takes, so that lists
# of many client connections could hold every slot for seconds; other calls take milliseconds.
_OF_LISTS = 0.5


class Slots:
    """A slot for each connection to the database. Those of calls that wait are granted to client connections in turn.

    The connection pool itself is first in, first out: all others would wait behind hundreds of lists of one client.
    """

    def __init__(self, connections: int) -> None:
        lists = max(1, int(connections * _OF_LISTS))
        self.all = FairSemaphore(connections, max(1, connections - _LEFT_FREE))
        self._lists = FairSemaphore(lists, max(1, lists - 1))

    async def acquire(self, client_connection: Hashable, seconds: float, *, listing: bool) -> None:
        """Acquire a slot, for a list or for another call; raise TimeoutError after `seconds`."""
        if not listing:
            await self.all.acquire(client_connection, seconds)
            return
        # First of lists, so that lists that wait for one another hold nothing that others could use.
        async with asyncio.timeout(seconds):
            await self._lists.acquire(client_connection)
            try:
                await self.all.acquire(client_connection)
            except BaseException:
                self._lists.release(client_connection)
                raise

    def release(self, client_connection: Hashable, *, listing: bool) -> None:
        """Release what `acquire` has acquired."""
        self.all.release(client_connection)
        if listing:
            self._lists.release(client_connection)
