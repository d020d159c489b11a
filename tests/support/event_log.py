"""The event log for tests: a writer run by hand, batches as executions applies them, rows, commands."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

import psycopg

from services.contracts.event_batches import Batch, encode_batch, lane_of, parse_verdict, subject_of
from services.contracts.fingerprints import HEADER as FINGERPRINTS_HEADER
from services.contracts.fingerprints import encode_fingerprints, fingerprint_of
from services.events.consumers.log_writer import LogWriter
from services.events.ingest.streams import declare_streams
from services.events.rules.log_lines import LoggedEvent, events_of
from services.events.store.event_log import batches_of_execution
from services.executions.events.batches import EventBatchConsumer
from services.executions.rules.events.batch import Event
from services.kit.db.database import Database
from services.kit.errors import Code
from services.kit.messaging.bus import Bus, Delivery
from tests.support.event_makers import batched
from tests.support.event_path import Executions
from tests.support.parts import Parts

SOON_SECONDS = 20.0

_sequences = count(1)


def batch_of(batch_id: str, name: str, *events: Event) -> Delivery:
    """Return a batch of events of the execution `name`, as the stream delivers it."""
    payload = encode_batch(Batch(batch_id, tuple(map(batched, events))))
    headers = {FINGERPRINTS_HEADER: encode_fingerprints([fingerprint_of("p", "d", name)] * len(events))}
    return Delivery(subject_of(lane_of("p", "d", name)), payload, next(_sequences), datetime.now(UTC), headers)


async def apply(replica: EventBatchConsumer, batch_id: str, name: str, *events: Event) -> None:
    """Apply a batch of events of the execution `name`."""
    await replica.apply_delivery(lane_of("p", "d", name), batch_of(batch_id, name, *events))


def codes(verdicts: Iterable[bytes | None]) -> list[int | None]:
    """Return the codes of verdicts; None for those that are not known."""
    return [None if verdict is None else getattr(parse_verdict(verdict), "code", Code.OK) for verdict in verdicts]


@dataclass
class EventLog:
    """The databases of the events and the executions service, with a connection to NATS."""

    url: str
    db: Database
    bus: Bus
    executions: Executions

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[LogWriter]:
        """Create a writer whose rounds the test runs."""
        bus = await Bus.connect(self.executions.nats_url, "events")
        try:
            yield LogWriter(self.db, bus)
        finally:
            await bus.close()

    async def events(self, name: str) -> list[LoggedEvent]:
        """Return the logged events of the execution `name`."""
        fingerprint = fingerprint_of("p", "d", name)
        return [
            logged
            async for batch in batches_of_execution(self.db, lane_of("p", "d", name), fingerprint, None)
            for logged in events_of(batch.received_at, batch.payload, batch.verdicts, fingerprint, batch.fingerprints)
        ]

    async def codes(self, name: str) -> list[int | None]:
        """Return the codes of the logged verdicts of the execution `name`."""
        return codes(logged.verdict for logged in await self.events(name))

    async def until_logged(self, name: str, number: int) -> None:
        """Wait until `number` events of the execution `name` are logged."""
        async with asyncio.timeout(SOON_SECONDS):
            while len(await self.events(name)) < number:
                pass

    def rows(self) -> list[tuple[object, ...]]:
        """Return id, payload and verdicts of all logged batches, in order of their ids."""
        with psycopg.connect(self.url) as connection:
            return connection.execute("SELECT batch_id, payload, verdicts FROM event_log ORDER BY batch_id").fetchall()

    def waiting(self) -> int:
        """Return how many rows executions stores for the log."""
        with psycopg.connect(self.executions.url) as connection:
            (row,) = connection.execute("SELECT count(*) FROM applied_batches").fetchall()
        return int(row[0])

    def partitions(self) -> list[str]:
        """Return the names of the partitions."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event_log'::regclass ORDER BY 1"
            )
            return [row[0] for row in rows]


@asynccontextmanager
async def event_log(parts: Parts, database: str) -> AsyncIterator[EventLog]:
    """Create an empty log on a new `database`, and one of executions."""
    url = await asyncio.to_thread(parts.migrated_database, "events", database)
    executions = await Executions.migrated(parts, f"{database}_executions")
    db = await Database.open(url)
    bus = await Bus.connect(parts.nats_url, "test-event-log")
    await declare_streams(bus)
    yield EventLog(url, db, bus, executions)
    await bus.close()
    await db.close()


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str


async def command(*arguments: str, **settings: str) -> Ran:
    """Run `python -m services.events` with these arguments and settings, as an operator does."""
    environment = os.environ | {f"FLYTEPLANE_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.events", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return Ran(process.returncode or 0, out.decode(), err.decode())
