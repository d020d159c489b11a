"""The event log while one of its parts is down or killed: no batch is lost, and none is logged twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message

from services.contracts.event_batches import BATCHES_STREAM, SUBJECTS
from services.events.consumers import log_writer
from services.events.consumers.log_writer import LAG, LogWriter
from services.events.ingest.streams import FORMER_LOG_DURABLE
from services.events.jobs.log_retention import LogRetention
from services.events.store.log_partitions import drop_partitions
from services.executions.consumers import requests
from services.kit.errors import Code, ServiceError, Unavailable
from services.kit.messaging.bus import Bus
from services.kit.messaging.messages import ServiceRequest
from services.kit.messaging.streams import pull_consumer_config
from services.kit.objects.store import ObjectStore
from tests.support.event_log import EventLog, apply, event_log
from tests.support.event_makers import node_event
from tests.support.parts import Parts, free_port, running_nats

SOON_SECONDS = 20.0
BATCHES = 12
PASSES = 3


@pytest.fixture
async def log(parts: Parts, tmp_path: Path) -> AsyncIterator[EventLog]:
    with running_nats(tmp_path, free_port()) as url:
        async with event_log(Parts(parts.postgres_url, url, parts.folder), "test_log_outages") as opened:
            yield opened


def allow(log: EventLog, url: str, *, connections: bool) -> None:
    """Open or close the database of `url` to connections, and end those that it has."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(str(log.url).replace("/test_log_outages", "/postgres", 1), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


async def round_until_written(writer: LogWriter) -> None:
    """Run rounds until one succeeds."""
    async with asyncio.timeout(SOON_SECONDS):
        while True:
            try:
                return await writer.round()
            except ServiceError:
                pass


@pytest.mark.parametrize("which", ["events", "executions"])
async def test_the_writer_waits_while_a_database_is_down(log: EventLog, which: str) -> None:
    name = log.executions.create()
    url = log.url if which == "events" else log.executions.url
    async with log.executions.replica() as replica, log.writer() as writer:
        for number in range(20):
            await apply(replica, f"away-{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
        allow(log, url, connections=False)
        try:
            writer.wake()
            with pytest.raises(ServiceError):
                await writer.round()
            assert LAG._value.get() > 0
        finally:
            allow(log, url, connections=True)
        await round_until_written(writer)
        assert LAG._value.get() == 0
    assert await log.codes(name) == [Code.OK] * 20


async def test_the_writer_waits_while_executions_is_down_and_takes_from_another_replica(log: EventLog) -> None:
    name = log.executions.create()
    async with log.writer() as writer:
        async with log.executions.replica() as replica:
            await apply(replica, "before", name, node_event("QUEUED", name=name))
        with pytest.raises(Unavailable):
            await writer.round()
        async with log.executions.replica():
            await round_until_written(writer)
    assert await log.codes(name) == [Code.OK]


async def test_the_loop_writes_after_nats_was_down(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_RETRY_SECONDS", 0.1)
    port = free_port()
    async with asyncio.timeout(60):
        with running_nats(tmp_path / "nats", port) as url:
            opening = event_log(Parts(parts.postgres_url, url, parts.folder), "test_log_outages")
            log = await opening.__aenter__()
            replicas, writers = log.executions.replica(), log.writer()
            replica, writer = await replicas.__aenter__(), await writers.__aenter__()
            running = asyncio.create_task(writer.run())
        name = log.executions.create()
        await apply(replica, "meanwhile", name, node_event("QUEUED", name=name))
        writer.wake()
        with running_nats(tmp_path / "nats", port):
            await log.until_logged(name, 1)
            running.cancel()
            for opened in (writers, replicas, opening):
                await opened.__aexit__(None, None, None)


class Killed(BaseException):
    """Ends a round where a kill would end the process."""


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (Bus, "request"),
        (log_writer, "make_partitions"),
        (log_writer, "insert"),
        (LogWriter, "_write"),
        (requests, "delete_logged"),
        (requests, "oldest_batches"),
    ],
)
async def test_a_kill_anywhere_loses_no_batch_and_repeats_none(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, owner: object, step: str, side: str
) -> None:
    """A writer dies, or executions fails to reply, at its first, second ... pass of a step of a round."""
    monkeypatch.setattr(requests, "PART_BYTES", 2000)  # several replies in a round
    original = getattr(owner, step)
    passes = deaths = 0

    async def deadly(*arguments: Any) -> Any:
        nonlocal passes, deaths
        passes -= 1
        result = None if passes == 0 and side == "before" else await original(*arguments)
        if passes == 0:
            deaths += 1
            raise RuntimeError if owner is requests else Killed
        return result

    monkeypatch.setattr(owner, step, deadly)
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as last:
        for number in range(BATCHES):
            await apply(replica, f"b{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
            passes = number % PASSES + 1
            async with log.writer() as writer:
                with suppress(Killed, ServiceError):
                    await writer.round()
        passes = 0
        await round_until_written(last)
        await last.round()
        assert log.waiting() == 0
    assert deaths > 1
    assert len(log.rows()) == BATCHES
    assert await log.codes(name) == [Code.OK] * BATCHES


class LossyBus(Bus):
    """A connection that loses every second reply."""

    _requests = 0

    async def request(self, service_request: ServiceRequest, request: Message) -> Message:  # type: ignore[type-arg, override]
        """Send the request; raise Unavailable instead of returning the reply, every second time."""
        reply: Message = await super().request(service_request, request)
        self._requests += 1
        if self._requests % 2:
            raise Unavailable("the reply was lost")
        return reply


async def test_a_lost_reply_loses_no_batch(log: EventLog) -> None:
    name = log.executions.create()
    bus = await LossyBus.connect(log.executions.nats_url, "events")
    writer = LogWriter(log.db, bus)
    async with log.executions.replica() as replica:
        for number in range(6):
            await apply(replica, f"b{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
            await round_until_written(writer)
        await round_until_written(writer)
        assert log.waiting() == 0
    await bus.close()
    assert await log.codes(name) == [Code.OK] * 6


async def test_a_batch_of_a_day_whose_partition_was_dropped_gets_a_new_one(log: EventLog) -> None:
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as writer:
        await apply(replica, "b1", name, node_event("QUEUED", name=name))
        await writer.round()
        await drop_partitions(log.db, (datetime.now(UTC) + timedelta(days=2)).date())
        await apply(replica, "b2", name, node_event("RUNNING", name=name))
        await round_until_written(writer)
    assert [row[0] for row in log.rows()] == ["b2"]


async def test_retention_deletes_what_a_replica_of_the_former_release_created_again(
    log: EventLog, tmp_path: Path
) -> None:
    await log.bus.declare_stream(BATCHES_STREAM, [pull_consumer_config(SUBJECTS, FORMER_LOG_DURABLE)])
    objects = ObjectStore.open(f"file://{tmp_path}/objects", "", "")
    await LogRetention(log.db, log.bus, objects, days=7).apply(datetime.now(UTC))
    consumers = await log.bus._jetstream.consumers_info(BATCHES_STREAM.name)
    assert FORMER_LOG_DURABLE not in {consumer.name for consumer in consumers}
