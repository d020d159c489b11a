"""The event log for tests: a writer run by hand, its rows, its commands."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg

from services.contracts.event_batches import (
    VERDICT_SUBJECT_HEADER,
    VERDICT_SUBJECTS,
    Batch,
    encode_batch,
    encode_verdicts,
    lane_of,
    subject_of,
    verdict_subject_of,
)
from services.events.consumers.log_writer import LogWriter
from services.events.ingest.streams import declare_streams, log_consumer
from services.events.rules.fingerprints import HEADER as FINGERPRINTS_HEADER
from services.events.rules.fingerprints import encode_fingerprints, fingerprint_of
from services.events.rules.log_lines import LoggedEvent, events_of
from services.events.store.event_log import batches_of_execution
from services.executions.rules.events.batch import Event
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from tests.support.event_makers import batched
from tests.support.parts import Parts
from tests.support.subscriptions import until_subscribed

SENDER = "sender"


@dataclass
class EventLog:
    """The events service's database, with a connection to the stream."""

    url: str
    db: Database
    bus: Bus

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[LogWriter]:
        """Create a writer whose rounds the test runs; it receives verdicts from here on."""
        bus = await Bus.connect(self.bus_url, "events")
        await declare_streams(bus)
        writer = LogWriter(self.db, await log_consumer(bus), bus.create_missing_streams)
        await bus.subscribe(VERDICT_SUBJECTS, writer.receive_verdicts)
        await until_subscribed(bus)
        try:
            yield writer
        finally:
            await bus.close()

    @property
    def bus_url(self) -> str:
        """Return the URL of NATS."""
        return str(self.bus._client.connected_url.geturl())  # type: ignore[union-attr]  # it is connected

    async def append(self, batch_id: str, name: str, *events: Event) -> None:
        """Append a batch of events of the execution `name`, as the publisher would."""
        payload = encode_batch(Batch(batch_id, tuple(map(batched, events))))
        fingerprints = encode_fingerprints([fingerprint_of("p", "d", name)] * len(events))
        headers = {VERDICT_SUBJECT_HEADER: verdict_subject_of(SENDER), FINGERPRINTS_HEADER: fingerprints}
        await self.bus.append(subject_of(lane_of("p", "d", name)), payload, batch_id, headers)

    async def send_verdicts(self, batch_id: str, *statuses: bytes) -> None:
        """Send verdicts, as executions would."""
        await self.bus.send(verdict_subject_of(SENDER), encode_verdicts(batch_id, statuses))

    async def events(self, name: str) -> list[LoggedEvent]:
        """Return the logged events of the execution `name`."""
        fingerprint = fingerprint_of("p", "d", name)
        return [
            logged
            async for batch in batches_of_execution(self.db, lane_of("p", "d", name), fingerprint, None)
            for logged in events_of(batch.received_at, batch.payload, batch.verdicts, fingerprint, batch.fingerprints)
        ]

    def partitions(self) -> list[str]:
        """Return the names of the partitions."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event_log'::regclass ORDER BY 1"
            )
            return [row[0] for row in rows]


@asynccontextmanager
async def event_log(parts: Parts, database: str) -> AsyncIterator[EventLog]:
    """Create an empty log on a new `database`."""
    url = await asyncio.to_thread(parts.migrated_database, "events", database)
    db = await Database.open(url)
    bus = await Bus.connect(parts.nats_url, "test-event-log")
    yield EventLog(url, db, bus)
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
