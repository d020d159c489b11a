"""The writer of the audit log: records of concurrent calls are stored by one statement, and announced.

A call waits until its record is stored, so that what a client knows has happened is in the log. The record is no part
of the transaction of the change: it has the outcome, which only exists afterwards, and refused calls have none
(docs/decisions/0038-audit-log.md).
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from services.kit.audit import store
from services.kit.audit.store import AuditRecord
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, ServiceError
from services.kit.process.telemetry import AUDIT_RECORDS_LOST

log = logging.getLogger(__name__)

# A statement with this many takes some milliseconds.
_MOST_AT_ONCE = 256
# Records that wait while the database takes none; they have a few hundred bytes each.
_MOST_WAITING = 10_000
_RETRY_SECONDS = 1.0
# How long a call waits for its record: longer than a restart of the database takes no client would.
_CALL_SECONDS = 2.0
# Of the time in which a process must end (setting `drain_seconds`).
_FLUSH_SECONDS = 3.0
_RETENTION_ROUND_SECONDS = 3600.0

_Waiting = tuple[AuditRecord, "asyncio.Future[None]"]


def subject_of(service: str) -> str:
    """Return the NATS subject on which the records of `service` are announced."""
    return f"flyte.audit.{service}"


def as_json(record: AuditRecord) -> bytes:
    """Return the announcement of a record."""
    return json.dumps(vars(record) | {"at": record.at.isoformat()}, ensure_ascii=False).encode(errors="replace")


class AuditLog:
    """Stores records; `run` must run meanwhile.

    Args:
        db: The database with the table.
        announce: Sends a stored record to who listens.
        days: Age at which records are deleted; 0 is never.
    """

    def __init__(self, db: Database, announce: Callable[[bytes], Awaitable[None]], days: int) -> None:
        self._db = db
        self._announce = announce
        self._days = days
        self._waiting: deque[_Waiting] = deque()
        self._filled = asyncio.Event()
        self._storing = asyncio.Lock()

    async def put(self, record: AuditRecord) -> None:
        """Store a record; return when it is stored, or after a bounded wait. It stays in the queue then."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= _MOST_WAITING:
            self._lose(self._waiting.popleft())
        self._waiting.append((record, stored))
        self._filled.set()
        await asyncio.wait([stored], timeout=_CALL_SECONDS)

    async def run(self) -> None:
        """Store what is put until cancelled; retry while the database takes nothing."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                try:
                    await self._store_some()
                except ServiceError as error:
                    log.warning("audit records wait: %s", error.message)
                    await asyncio.sleep(_RETRY_SECONDS)

    async def flush(self) -> None:
        """Store what waits, at the end of the process; log what cannot be stored."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                while self._waiting or self._storing.locked():
                    try:
                        await self._store_some()
                    except ServiceError:
                        await asyncio.sleep(_RETRY_SECONDS)
        while self._waiting:
            self._lose(self._waiting.popleft())

    async def retain(self) -> None:
        """Delete old records every hour until cancelled."""
        while True:
            try:
                if self._days:
                    await store.delete_before(self._db, datetime.now(UTC) - timedelta(days=self._days))
            except ServiceError as error:
                log.warning("the audit log is tidied up later: %s", error.message)
            await asyncio.sleep(_RETENTION_ROUND_SECONDS)

    async def _store_some(self) -> None:
        """Store and announce the oldest records; on failure they wait again, in their order."""
        async with self._storing:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]
            try:
                await self._insert(group)
            except BaseException:
                self._waiting.extendleft(reversed(group))
                raise
        for record, stored in group:
            if not stored.done():
                stored.set_result(None)
            with suppress(ServiceError):  # the table is the log; announcements are sent at most once
                await self._announce(as_json(record))

    async def _insert(self, group: list[_Waiting]) -> None:
        if not group:
            return
        try:
            async with self._db.autocommit() as connection:
                await store.insert(connection, [record for record, _ in group])
        except InvalidArgument:
            if len(group) == 1:
                self._lose(group[0])
                return
            # One record has a value that PostgreSQL refuses; it must not keep the others from the table.
            for waiting in group:
                await self._insert([waiting])

    def _lose(self, waiting: _Waiting) -> None:
        """Write a record that is in no table to the log of the process."""
        record, stored = waiting
        if not stored.done():
            stored.set_result(None)
        AUDIT_RECORDS_LOST.inc()
        log.error("an audit record is not stored", extra={"record": vars(record) | {"at": record.at.isoformat()}})
