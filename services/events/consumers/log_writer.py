"""The writer of the event log: batches from the stream with their verdicts, many in one statement.

It runs once a second, off the request path, because a burst costs far less than as many single messages. Events are not
parsed. A batch is acknowledged after the commit; when it is delivered again it is not written again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cachetools import FIFOCache
from prometheus_client import Counter, Gauge

from services.contracts.event_batches import PROBE_SUBJECT, framed_id
from services.events.rules.fingerprints import HEADER as FINGERPRINTS_HEADER
from services.events.rules.fingerprints import decode_fingerprints
from services.events.store.event_log import LoggedBatch, add_verdicts, insert
from services.events.store.log_partitions import make_partitions
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, ServiceError
from services.kit.messaging.pull_consumer import Fetched, PullConsumer

log = logging.getLogger(__name__)

WRITTEN = Counter("flyteplane_event_log_batches_total", "Batches of events written into the log")
LAG = Gauge("flyteplane_event_log_lag_seconds", "Age of the oldest batch of events known that is not in the log")

# A lone event is in the log after this time, and its row shares a commit with those of the same second.
_ROUND_SECONDS = 1.0
# How long a batch waits for its verdicts; executions needs milliseconds unless it is slow or down.
_VERDICT_SECONDS = 2.0
# Batches of one fetch: processing them delays the calls of the process, two milliseconds for so many single events.
_BURST = 128
# Batches that are fetched and not yet written. Beyond this (the database is down) the rest stays in the stream.
_PENDING_BATCHES = 1024
_PENDING_BYTES = 16 * 1024 * 1024
# Verdicts whose batches were not fetched yet, or were fetched by another replica; those of some 20,000 batches.
# FIFOCache raises for a value larger than the whole cache; the largest NATS message fits.
_VERDICT_BYTES = 8 * 1024 * 1024
# Batches that were written without verdicts, while executions is down; the rest is left to `VerdictBackfill`.
_WITHOUT_VERDICTS = 50_000
_NO_VERDICTS = b""
_NO_LANE = -1
# A token with more digits is no lane, and no smallint.
_LANE_DIGITS = 4


@dataclass(frozen=True)
class _Pending:
    """A batch that is fetched and not yet written.

    `since` is the event loop's time: the clock of the stream may differ from this machine's.
    """

    message: Fetched
    since: float


class LogWriter:
    """The writer in one replica; replicas share the batches in the stream.

    Args:
        db: The database of the log.
        batches: The consumer of all lanes.
        create_missing: Creates consumers of the stream again that are gone; raises Unavailable when it cannot.
    """

    def __init__(self, db: Database, batches: PullConsumer, create_missing: Callable[[], Awaitable[None]]) -> None:
        self._db = db
        self._batches = batches
        self._create_missing = create_missing
        self._pending: dict[str, _Pending] = {}
        self._verdicts: FIFOCache[str, bytes] = FIFOCache(_VERDICT_BYTES, len)
        self._without_verdicts: dict[str, datetime] = {}
        self._late_verdicts: dict[str, tuple[datetime, str, bytes]] = {}
        self._partitions: set[date] = set()
        self._fetched_until = datetime.now(UTC)
        self._writing = asyncio.Lock()

    async def receive_verdicts(self, verdicts: bytes) -> None:
        """Store the verdicts of a batch in memory until it is written."""
        identifier = framed_id(verdicts)
        received_at = self._without_verdicts.pop(identifier, None)
        if received_at is not None:
            self._late_verdicts[identifier] = (received_at, identifier, verdicts)
            return
        self._verdicts[identifier] = verdicts

    async def run(self) -> None:
        """Write until cancelled; retry while the database or NATS is down."""
        while True:
            more = False
            with _log_service_errors():
                more = await self.round()
            if not more:
                await asyncio.sleep(_ROUND_SECONDS)

    async def drain(self) -> None:
        """Write the pending batches, with or without verdicts; those in the stream are for the next process."""
        with _log_service_errors():
            await self.round(last=True)

    async def round(self, *, last: bool = False) -> bool:
        """Fetch and write once.

        Args:
            last: Also write the batches whose verdicts may still arrive.

        Returns:
            Whether the stream has more batches.

        Raises:
            ServiceError: The database or NATS is down; all batches are still pending.
        """
        async with self._writing:
            now = asyncio.get_running_loop().time()
            more = False
            try:
                if not self._full():
                    fetched = await self._batches.fetch(_BURST)
                    for message in fetched:
                        if message.subject != PROBE_SUBJECT:
                            self._add(message, now)
                    await self._batches.acknowledge(message for message in fetched if message.subject == PROBE_SUBJECT)
                    more = self._batches.more
                    # The batches that are still in the stream are younger than this.
                    self._fetched_until = fetched[-1].stored_at if more else datetime.now(UTC)
                await self._write(now if last or self._full() else now - _VERDICT_SECONDS)
            finally:
                LAG.set(self._lag())
            return more

    def _add(self, message: Fetched, now: float) -> None:
        identifier = _identifier(message)
        before = self._pending.get(identifier)  # pending for so long that it was delivered again
        self._pending[identifier] = _Pending(message, before.since if before else now)

    def _full(self) -> bool:
        payloads = (len(pending.message.payload) for pending in self._pending.values())
        return len(self._pending) >= _PENDING_BATCHES or sum(payloads) >= _PENDING_BYTES

    async def _write(self, pending_since: float) -> None:
        """Write the batches that have verdicts or are pending since `pending_since` or longer."""
        ready = {
            identifier: pending.message
            for identifier, pending in self._pending.items()
            if identifier in self._verdicts or pending.since <= pending_since
        }
        rows = [self._row(identifier, message) for identifier, message in ready.items()]
        late = dict(self._late_verdicts)
        # A batch that is delivered again may have been written before its verdicts were known.
        late |= {
            row.batch_id: (row.received_at, row.batch_id, row.verdicts)
            for row in rows
            if row.verdicts and ready[row.batch_id].redelivered
        }
        if not rows and not late:
            return
        try:
            await self._ensure_partitions({row.received_at.date() for row in rows})
            async with self._db.transaction() as connection:
                written = await insert(connection, rows) if rows else 0
                if late:
                    await add_verdicts(connection, list(late.values()))
        except ServiceError:
            self._partitions.clear()  # another replica may have dropped one
            raise
        WRITTEN.inc(written)
        if any(row.verdicts is None for row in rows):
            # Executions does not respond. If the lane's consumer is gone, the stream deletes the batch when it is
            # acknowledged here; a consumer that is created before that receives it.
            await self._create_missing()
        self._remove(rows, late)
        await self._batches.acknowledge(ready.values())

    def _row(self, identifier: str, message: Fetched) -> LoggedBatch:
        verdicts = self._verdicts.get(identifier)
        if verdicts is None and identifier == _unreadable_id(message):
            verdicts = _NO_VERDICTS
        return LoggedBatch(
            message.stored_at,
            identifier,
            _lane(message.subject),
            _fingerprints(message.headers.get(FINGERPRINTS_HEADER)),
            message.payload,
            verdicts,
        )

    async def _ensure_partitions(self, days: set[date]) -> None:
        if not days <= self._partitions:
            await make_partitions(self._db, days)
            self._partitions = days

    def _remove(self, rows: list[LoggedBatch], late: dict[str, tuple[datetime, str, bytes]]) -> None:
        for row in rows:
            del self._pending[row.batch_id]
            self._verdicts.pop(row.batch_id, None)
            if row.verdicts is None and len(self._without_verdicts) < _WITHOUT_VERDICTS:
                self._without_verdicts[row.batch_id] = row.received_at
        for identifier in late:
            self._late_verdicts.pop(identifier, None)

    def _lag(self) -> float:
        oldest = min((pending.message.stored_at for pending in self._pending.values()), default=self._fetched_until)
        return max(0.0, (datetime.now(UTC) - min(oldest, self._fetched_until)).total_seconds())


def _lane(subject: str) -> int:
    # A message without a lane is written, too: otherwise it would be fetched again and again.
    token = subject.rpartition(".")[2]
    return int(token) if token.isascii() and token.isdigit() and len(token) <= _LANE_DIGITS else _NO_LANE


def _fingerprints(header: str | None) -> bytes | None:
    try:
        return None if header is None else decode_fingerprints(header)
    except ValueError:
        return None


def _identifier(message: Fetched) -> str:
    try:
        identifier = framed_id(message.payload)
    except InvalidArgument:
        return _unreadable_id(message)
    return identifier if identifier.isprintable() else _unreadable_id(message)


def _unreadable_id(message: Fetched) -> str:
    """Return the log's own id for a batch whose id cannot be read; executions stores the batch, under another name."""
    return f"unreadable-{message.sequence}"


@contextlib.contextmanager
def _log_service_errors() -> Iterator[None]:
    try:
        yield
    except ServiceError as error:
        log.warning("the event log waits: %s", error.message)
