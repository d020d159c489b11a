"""Group commit of launches: concurrent launches are stored by one statement.

While a statement runs, the next launches are collected. A single launch does not wait; under load many launches share a
statement, its transaction and its sync to disk.
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
_MOST_LAUNCHES = 64

_Waiting = tuple[Launch, "asyncio.Future[bool]"]


class GroupCommit:
    """Stores new executions, one statement at a time."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: deque[_Waiting] = deque()
        self._storing: asyncio.Task[None] | None = None

    async def store(self, launch: Launch) -> bool:
        """Store `launch`; return False, with nothing stored, if its name is in use. Raises a ServiceError."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((launch, stored))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_all())
        return await stored

    async def _store_all(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_LAUNCHES))]
                # A call that was cancelled got no response, so its execution must not be stored.
                await self._store(*(waiting for waiting in group if not waiting[1].done()))
        finally:
            self._storing = None

    async def _store(self, *group: _Waiting) -> None:
        try:
            uris = await self._insert([launch for launch, _ in group])
        except InvalidArgument as error:
            if len(group) == 1:
                _fail(group, error)
                return
            # One launch has a value that cannot be stored; it must not fail the others.
            for waiting in group:
                await self._store(waiting)
        except ServiceError as error:
            _fail(group, error)
        else:
            for launch, stored in group:
                if not stored.done():
                    stored.set_result(launch.inputs_uri in uris)

    async def _insert(self, launches: Sequence[Launch]) -> set[str]:
        if not launches:
            return set()
        async with self._db.autocommit() as connection:
            return await store.insert(connection, launches, EXECUTION_CREATED.subject)


def _fail(group: Sequence[_Waiting], error: ServiceError) -> None:
    for _, stored in group:
        if not stored.done():
            stored.set_exception(type(error)(error.message, *error.details))
