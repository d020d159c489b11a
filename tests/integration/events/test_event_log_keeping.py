"""Retention of the event log: its partitions, refused events and objects of large events."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from services.contracts.applied_batches import AppliedBatch
from services.contracts.event_batches import Batch, encode_batch, large_event_path, subject_of
from services.events.ingest.streams import declare_streams
from services.events.jobs.log_retention import LogRetention
from services.events.store.event_log import insert
from services.events.store.log_partitions import make_partitions
from services.kit.objects.store import ObjectStore
from tests.support.event_log import EventLog, event_log
from tests.support.parts import Parts, free_port, running_nats

NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def log(parts: Parts, tmp_path: Path) -> AsyncIterator[EventLog]:
    with running_nats(tmp_path / "nats", free_port()) as url:
        async with event_log(Parts(parts.postgres_url, url, tmp_path), "test_event_log_keeping") as opened:
            await declare_streams(opened.bus)
            yield opened


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open(f"file://{tmp_path}/objects", "", "")


def names(*days: int) -> list[str]:
    return [f"event_log_2026_11_{day:02}" for day in days]


async def write(log: EventLog, received_at: datetime) -> None:
    await make_partitions(log.db, [received_at.date()])
    async with log.db.transaction() as connection:
        await insert(connection, [AppliedBatch(0, 0, received_at, f"b{received_at}", None, b"", b"")])


async def test_partitions_are_created_ahead_and_dropped_after_the_days(log: EventLog, objects: ObjectStore) -> None:
    for days_ago in (9, 8, 7, 0):
        await write(log, NOW - days_ago * DAY)
    retention = LogRetention(log.db, log.bus, objects, days=7)
    for _ in range(2):  # a second replica changes nothing
        await retention.apply(NOW)
        assert log.partitions() == names(17, 24, 25, 26, 27)


async def test_partitions_are_never_dropped_with_zero_days(log: EventLog, objects: ObjectStore) -> None:
    await write(log, NOW - 9 * DAY)
    await LogRetention(log.db, log.bus, objects, days=0).apply(NOW)
    assert log.partitions() == names(15, 24, 25, 26, 27)


async def test_make_partitions_creates_those_that_are_missing(log: EventLog) -> None:
    await make_partitions(log.db, [date(2026, 11, 1)])
    await make_partitions(log.db, [date(2026, 11, 1), date(2026, 11, 2)])
    assert log.partitions() == names(1, 2)


async def test_refused_events_are_deleted_after_the_days(log: EventLog, objects: ObjectStore) -> None:
    with psycopg.connect(log.url) as connection:
        for days_ago in (8, 6):
            connection.execute(
                "INSERT INTO refused_events (created_at, batch_id, position, kind, code, message, status, event,"
                " by_reference) VALUES (%s, %s, 0, 'NODE', 5, '', '', '', false)",
                (NOW - days_ago * DAY, str(days_ago)),
            )
    await LogRetention(log.db, log.bus, objects, days=7).apply(NOW)
    with psycopg.connect(log.url) as connection:
        assert connection.execute("SELECT batch_id FROM refused_events").fetchall() == [("6",)]


async def put(objects: ObjectStore, folder: Path, batch: str, modified_at: datetime) -> str:
    uri = objects.uri(*large_event_path(batch, 0))
    await objects.put(uri, b"event")
    seconds = modified_at.timestamp()
    os.utime(folder / "objects" / "metadata" / "events" / "waiting" / f"{batch}-0", (seconds, seconds))
    return uri


async def test_only_objects_of_large_events_are_deleted_after_the_days(
    log: EventLog, objects: ObjectStore, tmp_path: Path
) -> None:
    old = await put(objects, tmp_path, "old", NOW - 8 * DAY)
    young = await put(objects, tmp_path, "young", NOW - 6 * DAY)
    other = objects.uri("metadata", "events", "unreadable", "0-1")
    await objects.put(other, b"kept")
    os.utime(tmp_path / "objects/metadata/events/unreadable/0-1", (0, 0))
    await LogRetention(log.db, log.bus, objects, days=7).apply(NOW)
    assert await objects.head(old) is None
    assert await objects.head(young) is not None
    assert await objects.head(other) is not None


async def test_an_object_is_not_deleted_while_its_event_waits_to_be_applied(
    log: EventLog, objects: ObjectStore, tmp_path: Path
) -> None:
    """Executions was down for longer than events are stored."""
    await log.bus.append(subject_of(0), encode_batch(Batch("waits", ())), "waits")
    uri = await put(objects, tmp_path, "waits", datetime.now(UTC))
    await LogRetention(log.db, log.bus, objects, days=1).apply(datetime.now(UTC) + 3 * DAY)
    assert await objects.head(uri) is not None
    await log.bus._jetstream.purge_stream("EVENT_BATCHES")
    await LogRetention(log.db, log.bus, objects, days=1).apply(datetime.now(UTC) + 3 * DAY)
    assert await objects.head(uri) is None
