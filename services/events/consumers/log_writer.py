"""Writes the event log: batches from the stream, with the verdicts heard meanwhile, many in one statement.

Off the request path and once a second, because a burst costs far less than as many single messages. No event is looked
into. A batch is acknowledged once it is committed, and written once however often it is delivered.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cachetools import FIFOCache
from prometheus_client import Counter, Gauge

from services.contracts.event_batches import TRIAL, framed_id
from services.contracts.event_fingerprints import HEADER as MARKS_HEADER
from services.contracts.event_fingerprints import decode_fingerprints
from services.events.store.event_log import LoggedBatch, complete, insert
from services.events.store.log_days import make_days
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, ServiceError
from services.kit.messaging.batch_consumer import BatchConsumer, Fetched

log = logging.getLogger(__name__)

WRITTEN = Counter("flyteplane_event_log_batches_total", "Batches of events written into the log")
LAG = Gauge("flyteplane_event_log_lag_seconds", "Age of the oldest batch of events known that is not in the log")

# A lone event is found in the log after this, and its row shares a commit with those of the same second.
_ROUND_SECONDS = 1.0
# How long a batch waits for its verdicts; executions needs milliseconds unless it is slow or away.
_VERDICT_SECONDS = 2.0
# Of one fetch: what a process does for it keeps its calls waiting, some two milliseconds for so many single events.
_BURST = 128
# What is fetched and not yet written; with this much in hand (the database is away) the rest stays in the stream.
_HELD_BATCHES = 1024
_HELD_BYTES = 16 * 1024 * 1024
# Verdicts whose batches were not fetched yet, or were fetched by another replica; some 20,000 batches'. No message of
# NATS is larger.
_HEARD_BYTES = 8 * 1024 * 1024
# Batches that were written without verdicts, while executions is away; for more there is `missed_verdicts`.
_UNANSWERED = 50_000
_NOBODY_ANSWERS = b""
_NO_LANE = -1
# More is no lane, and no smallint.
_LANE_DIGITS = 4


@dataclass(frozen=True)
class _Held:
    """A batch in hand. The clock is the loop's: the stream's may go differently from this machine's."""

    message: Fetched
    since: float


class LogWriter:
    """One replica's part in writing the log; replicas share what is in the stream.

    `mend` makes consumers of the stream again that are gone; raises Unavailable when it cannot.
    """

    def __init__(self, db: Database, batches: BatchConsumer, mend: Callable[[], Awaitable[None]]) -> None:
        self._db = db
        self._batches = batches
        self._mend = mend
        self._held: dict[str, _Held] = {}
        self._heard: FIFOCache[str, bytes] = FIFOCache(_HEARD_BYTES, len)
        self._unanswered: dict[str, datetime] = {}
        self._late: dict[str, tuple[datetime, str, bytes]] = {}
        self._days: set[date] = set()
        self._reached = datetime.now(UTC)
        self._writing = asyncio.Lock()

    async def heard(self, verdicts: bytes) -> None:
        """Remember the verdicts on a batch until it is written."""
        identifier = framed_id(verdicts)
        received_at = self._unanswered.pop(identifier, None)
        if received_at is not None:
            self._late[identifier] = (received_at, identifier, verdicts)
            return
        self._heard[identifier] = verdicts

    async def run(self) -> None:
        """Write for ever; a part that is down is waited for."""
        while True:
            more = False
            with _told():
                more = await self.round()
            if not more:
                await asyncio.sleep(_ROUND_SECONDS)

    async def drain(self) -> None:
        """Write what is in hand, with or without verdicts; what is in the stream is for the next process."""
        with _told():
            await self.round(last=True)

    async def round(self, *, last: bool = False) -> bool:
        """Fetch and write once; answers whether more is waiting. Raises a ServiceError with all still in hand."""
        async with self._writing:
            now = asyncio.get_running_loop().time()
            more = False
            try:
                if not self._full():
                    fetched = await self._batches.fetch(_BURST)
                    for message in fetched:
                        if message.subject != TRIAL:
                            self._take(message, now)
                    await self._batches.done(message for message in fetched if message.subject == TRIAL)
                    more = self._batches.more
                    # What is still in the stream is younger than this.
                    self._reached = fetched[-1].stored_at if more else datetime.now(UTC)
                await self._write(now if last or self._full() else now - _VERDICT_SECONDS)
            finally:
                LAG.set(self._lag())
            return more

    def _take(self, message: Fetched, now: float) -> None:
        identifier = _identifier(message)
        before = self._held.get(identifier)  # in hand for so long that it was delivered again
        self._held[identifier] = _Held(message, before.since if before else now)

    def _full(self) -> bool:
        payloads = (len(held.message.payload) for held in self._held.values())
        return len(self._held) >= _HELD_BATCHES or sum(payloads) >= _HELD_BYTES

    async def _write(self, patience: float) -> None:
        """Write what has its verdicts or is in hand since `patience`."""
        ready = {
            identifier: held.message
            for identifier, held in self._held.items()
            if identifier in self._heard or held.since <= patience
        }
        rows = [self._row(identifier, message) for identifier, message in ready.items()]
        late = dict(self._late)
        # What is delivered again may have been written before its verdicts were known.
        late |= {
            row.batch_id: (row.received_at, row.batch_id, row.verdicts)
            for row in rows
            if row.verdicts and ready[row.batch_id].redelivered
        }
        if not rows and not late:
            return
        try:
            await self._make_days({row.received_at.date() for row in rows})
            async with self._db.transaction() as connection:
                written = await insert(connection, rows) if rows else 0
                if late:
                    await complete(connection, list(late.values()))
        except ServiceError:
            self._days.clear()  # another replica may have dropped one
            raise
        WRITTEN.inc(written)
        if any(row.verdicts is None for row in rows):
            # Nobody answers. Should the lane's consumer be gone, the stream would forget the batch once it is done with
            # here; a consumer that is made again before that gets it.
            await self._mend()
        self._forget(rows, late)
        await self._batches.done(ready.values())

    def _row(self, identifier: str, message: Fetched) -> LoggedBatch:
        verdicts = self._heard.get(identifier)
        if verdicts is None and identifier == _unreadable(message):
            verdicts = _NOBODY_ANSWERS
        return LoggedBatch(
            message.stored_at,
            identifier,
            _lane(message.subject),
            _marks(message.headers.get(MARKS_HEADER)),
            message.payload,
            verdicts,
        )

    async def _make_days(self, days: set[date]) -> None:
        if not days <= self._days:
            await make_days(self._db, days)
            self._days = days

    def _forget(self, rows: list[LoggedBatch], late: dict[str, tuple[datetime, str, bytes]]) -> None:
        for row in rows:
            del self._held[row.batch_id]
            self._heard.pop(row.batch_id, None)
            if row.verdicts is None and len(self._unanswered) < _UNANSWERED:
                self._unanswered[row.batch_id] = row.received_at
        for identifier in late:
            self._late.pop(identifier, None)

    def _lag(self) -> float:
        oldest = min((held.message.stored_at for held in self._held.values()), default=self._reached)
        return max(0.0, (datetime.now(UTC) - min(oldest, self._reached)).total_seconds())


def _lane(subject: str) -> int:
    """Whatever was appended must be written, or it would be fetched for ever."""
    token = subject.rpartition(".")[2]
    return int(token) if token.isascii() and token.isdigit() and len(token) <= _LANE_DIGITS else _NO_LANE


def _marks(header: str | None) -> bytes | None:
    try:
        return None if header is None else decode_fingerprints(header)
    except ValueError:
        return None


def _identifier(message: Fetched) -> str:
    try:
        identifier = framed_id(message.payload)
    except InvalidArgument:
        return _unreadable(message)
    return identifier if identifier.isprintable() else _unreadable(message)


def _unreadable(message: Fetched) -> str:
    """The log's own name for a batch whose id cannot be read; executions parks it (`parking_place`)."""
    return f"unreadable-{message.sequence}"


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ServiceError as error:
        log.warning("the event log waits: %s", error.message)
