"""Launches that come together are stored together.

While one statement is under way the next launches collect, as events do in their lanes: a lone launch waits for nobody,
and under load a statement, its transaction and its sync to disk are shared.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from services.contracts.executions import EXECUTION_CREATED
from services.executions.store import launches as store
from services.executions.store.launches import Launch
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, ServiceError

# A statement with this many takes some ten milliseconds.
_MOST_TOGETHER = 64

Waiting = tuple[Launch, "asyncio.Future[bool]"]


class LaunchBatcher:
    """Stores new executions, a statement at a time."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: deque[Waiting] = deque()
        self._loop: asyncio.Task[None] | None = None

    async def store(self, launch: Launch) -> bool:
        """Store `launch`; False, with nothing stored, when its name is taken. Raises what the database answers."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((launch, stored))
        if self._loop is None:
            self._loop = asyncio.create_task(self._store_all())
        return await stored

    async def _store_all(self) -> None:
        try:
            while self._waiting:
                together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_TOGETHER))]
                # Who has gone was not told anything, and must not find an execution later.
                await self._store(*(waiting for waiting in together if not waiting[1].done()))
        finally:
            self._loop = None

    async def _store(self, *together: Waiting) -> None:
        try:
            stored = await self._insert([launch for launch, _ in together])
        except InvalidArgument as error:
            if len(together) == 1:
                _fail(together, error)
                return
            # One of them holds a value that cannot be stored; the others have nothing to do with it.
            for waiting in together:
                await self._store(waiting)
        except ServiceError as error:
            _fail(together, error)
        else:
            for launch, told in together:
                if not told.done():
                    told.set_result(launch.inputs_uri in stored)

    async def _insert(self, launches: Sequence[Launch]) -> set[str]:
        if not launches:
            return set()
        async with self._db.read() as connection:
            return await store.insert(connection, launches, EXECUTION_CREATED.subject)


def _fail(together: Sequence[Waiting], error: ServiceError) -> None:
    for _, told in together:
        if not told.done():
            told.set_exception(type(error)(error.message, *error.details))
