"""The writer of the event log: takes applied batches from executions and inserts many in one statement.

Executions stores each batch with its verdicts in the transaction that applies it, and keeps the row until a writer has
logged it. So nothing is lost while either service is down. Verdicts only wake the writer; it collects for a second, off
the request path, because many rows in one statement cost far less. Events are not parsed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

from google.protobuf.wrappers_pb2 import BytesValue
from prometheus_client import Counter, Gauge

from services.contracts.applied_batches import (
    AppliedBatch,
    TakeReply,
    TakeRequest,
    decode_reply,
    decode_rows,
    encode_request,
)
from services.contracts.executions import TAKE_APPLIED_BATCHES
from services.events.store.event_log import insert
from services.events.store.log_partitions import make_partitions
from services.kit.db.database import Database
from services.kit.errors import ServiceError
from services.kit.messaging.bus import Bus

log = logging.getLogger(__name__)

WRITTEN = Counter("flyteplane_event_log_batches_total", "Batches of events written into the log")
LAG = Gauge("flyteplane_event_log_lag_seconds", "Age of the oldest applied batch known that is not in the log; else 0")

# A lone event is in the log after this time, and its row shares a request and a commit with those of the same second.
_COLLECT_SECONDS = 1.0
# Batches of a replica that was killed, or whose verdicts were lost, are found after this time.
_POLL_SECONDS = 30.0
# Between two attempts while executions, the database or NATS is down.
_RETRY_SECONDS = 5.0


class LogWriter:
    """The writer in one replica. Replicas at the same time insert the same rows, of which the log keeps one each."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus
        self._woken = asyncio.Event()
        self._unlogged_since: datetime | None = None
        self._logged: Sequence[int] = ()  # ids of rows that executions may delete
        self._partitions: set[date] = set()
        self._writing = asyncio.Lock()

    def wake(self) -> None:
        """Note that a batch was applied."""
        self._unlogged_since = self._unlogged_since or datetime.now(UTC)
        self._woken.set()

    async def run(self) -> None:
        """Write until cancelled; retry while executions, the database or NATS is down."""
        while True:
            pause = _RETRY_SECONDS
            with _log_service_errors():
                await self.round()
                pause = _POLL_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
                await asyncio.sleep(_COLLECT_SECONDS)

    async def drain(self) -> None:
        """Write what was applied since the last round; what cannot be written is for the next process."""
        if self._unlogged_since is not None:
            with _log_service_errors():
                await self.round()

    async def round(self) -> None:
        """Take and write until executions has no more; raise ServiceError while that fails."""
        async with self._writing:
            self._woken.clear()
            oldest = self._unlogged_since or datetime.now(UTC)
            self._unlogged_since = None
            try:
                more = True
                while more:
                    rows, more = await self._take()
                    oldest = min([oldest, *(row.received_at for row in rows)])
                    await self._write(rows)
                    oldest = rows[-1].received_at if rows else oldest
            except BaseException:
                self._unlogged_since = oldest
                raise
            finally:
                since = self._unlogged_since
                LAG.set(0 if since is None else max(0.0, (datetime.now(UTC) - since).total_seconds()))

    async def _take(self) -> tuple[list[AppliedBatch], bool]:
        """Return the oldest rows that are not logged, and whether there are more."""
        data = b""
        reply = await self._request(TakeRequest(self._logged))
        self._logged = ()
        while len(data := data[: reply.offset] + reply.part) < reply.size:
            reply = await self._request(TakeRequest(first=reply.first, offset=len(data)))
        return decode_rows(data), reply.more

    async def _request(self, request: TakeRequest) -> TakeReply:
        reply = await self._bus.request(TAKE_APPLIED_BATCHES, BytesValue(value=encode_request(request)))
        return decode_reply(reply.value)

    async def _write(self, rows: Sequence[AppliedBatch]) -> None:
        if not rows:
            return
        try:
            await self._ensure_partitions({row.received_at.date() for row in rows})
            async with self._db.transaction() as connection:
                WRITTEN.inc(await insert(connection, rows))
        except ServiceError:
            self._partitions.clear()  # another replica may have dropped one
            raise
        self._logged = [row.id for row in rows]

    async def _ensure_partitions(self, days: set[date]) -> None:
        if not days <= self._partitions:
            await make_partitions(self._db, days)
            self._partitions = days


@contextlib.contextmanager
def _log_service_errors() -> Iterator[None]:
    try:
        yield
    except ServiceError as error:
        log.warning("the event log waits: %s", error.message)
