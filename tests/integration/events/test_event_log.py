"""The event log over real NATS and PostgreSQL: every batch once, with its verdicts, after outages of each part."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import grpc
import psycopg
import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from nats.js.api import RetentionPolicy, StreamConfig

from services.contracts.event_batches import BATCHES_STREAM, SUBJECTS, parse_verdict, subject_of, verdict
from services.events.consumers import log_writer
from services.events.consumers.log_writer import LAG, LogWriter
from services.events.ingest.streams import declare_streams, replace_former_batches_stream
from services.events.jobs.verdict_backfill import VerdictBackfill
from services.events.rules.fingerprints import HEADER as FINGERPRINTS_HEADER
from services.kit.db.database import Database
from services.kit.errors import Code, FailedPrecondition, NotFound, ServiceError
from services.kit.messaging import streams
from services.kit.messaging.bus import Bus
from services.kit.messaging.pull_consumer import Fetched, PullConsumer
from services.kit.messaging.streams import Delivery
from tests.support.event_log import EventLog, event_log
from tests.support.event_makers import node_event, task_event, workflow_event
from tests.support.event_path import Executions, send
from tests.support.parts import Parts, free_port, running_nats, service
from tests.support.waiting import until

SOON_SECONDS = 20.0
# Shorter than in production: the batches of a killed writer are delivered again after this.
ACK_WAIT_SECONDS = 0.5


@pytest.fixture(scope="module")
def own_parts(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Run a NATS for this module alone: all log writers on one NATS share a consumer."""
    with running_nats(tmp_path_factory.mktemp("nats"), free_port()) as url:
        yield Parts(parts.postgres_url, url, parts.folder)


@pytest.fixture
async def log(own_parts: Parts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EventLog]:
    monkeypatch.setattr(streams, "PULL_ACK_WAIT_SECONDS", ACK_WAIT_SECONDS)
    async with event_log(own_parts, "test_event_log") as opened:
        yield opened
        await opened.bus._jetstream.delete_stream("EVENT_BATCHES")  # the next test starts with nothing waiting


def new_name() -> str:
    return f"e{uuid.uuid4().hex[:12]}"


async def rounds_until(writer: LogWriter, condition: Callable[[], Awaitable[bool]]) -> None:
    """Run rounds of the writer until the condition holds."""
    async with asyncio.timeout(SOON_SECONDS):
        while not await condition():
            await writer.round()


def codes(verdicts: Iterable[bytes | None]) -> list[int | None]:
    """Return the codes of verdicts; None for those that are not known."""
    return [None if verdict is None else getattr(parse_verdict(verdict), "code", Code.OK) for verdict in verdicts]


async def test_every_event_is_logged_once_with_its_verdict(own_parts: Parts) -> None:
    executions = await Executions.migrated(own_parts, "test_event_log_executions")
    async with (
        service("events", own_parts, "test_event_log_events", objects_url=executions.objects.uri()) as events,
        executions.replica(),
    ):
        admin = AdminServiceStub(events.channel)
        names = [executions.create() for _ in range(20)]

        async def play(name: str) -> None:
            await send(admin, workflow_event("RUNNING", name=name))
            await asyncio.gather(*(send(admin, node_event("QUEUED", node=f"n{n}", name=name)) for n in range(10)))
            for bad in (workflow_event("RUNNING", name=name), task_event("RUNNING", node="unknown", name=name)):
                with pytest.raises(grpc.aio.AioRpcError):
                    await send(admin, bad)

        await asyncio.gather(*map(play, names))
        url = events.settings.database_url

        def logged() -> bool:
            with psycopg.connect(url) as connection:
                (row,) = connection.execute("SELECT coalesce(sum(length(marks) / 8), 0) FROM event_log").fetchall()
            return bool(row[0] >= 13 * len(names))

        await until(logged, SOON_SECONDS)
        log = EventLog(url, await Database.open(url), await Bus.connect(own_parts.nats_url, "test"))
        for name in names:
            received = await log.events(name)
            verdicts = codes(logged.verdict for logged in received)
            assert verdicts == [Code.OK] * 11 + [Code.ALREADY_EXISTS, Code.NOT_FOUND]
            assert [logged.received_at for logged in received] == sorted(logged.received_at for logged in received)
        assert len(log.partitions()) >= 4  # created ahead since the start
        await log.db.close()
        await log.bus.close()


async def test_a_batch_is_written_with_verdicts_received_before_it_was_fetched(log: EventLog) -> None:
    async with log.writer() as writer:
        name = new_name()
        await log.append("b1", name, workflow_event("RUNNING", name=name), node_event("QUEUED", name=name))
        await log.send_verdicts("b1", b"", verdict(NotFound("missing entity")))
        await until(lambda: "b1" in writer._verdicts)
        await writer.round()
        assert codes(logged.verdict for logged in await log.events(name)) == [Code.OK, Code.NOT_FOUND]
        assert LAG._value.get() < 1


async def test_a_late_verdict_completes_its_batch(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_VERDICT_SECONDS", 0.2)
    async with log.writer() as writer:
        name = new_name()
        await log.append("late", name, workflow_event("RUNNING", name=name))

        async def written() -> bool:
            return bool(await log.events(name))

        await rounds_until(writer, written)
        assert codes(logged.verdict for logged in await log.events(name)) == [None]
        await log.send_verdicts("late", b"")

        async def completed() -> bool:
            return codes(logged.verdict for logged in await log.events(name)) == [Code.OK]

        await rounds_until(writer, completed)


class Killed(PullConsumer):
    """The consumer of a writer that is killed after its commit: it acknowledges nothing."""

    async def acknowledge(self, fetched: Iterable[Fetched]) -> None:
        """Acknowledge nothing."""


async def test_a_batch_whose_writer_was_killed_before_the_acknowledgement_has_one_row_and_gets_its_verdict(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_VERDICT_SECONDS", 0)
    name = new_name()
    async with log.writer() as healthy:
        await log.append("twice", name, workflow_event("RUNNING", name=name))
        killed = Killed(log.bus._client, "EVENT_BATCHES", "events-log")
        await killed.open()
        await LogWriter(log.db, killed, log.bus.create_missing_streams).round()
        assert codes(logged.verdict for logged in await log.events(name)) == [None]
        await log.send_verdicts("twice", b"")
        await until(lambda: "twice" in healthy._verdicts)

        async def done() -> bool:
            consumer = await log.bus._jetstream.consumer_info("EVENT_BATCHES", "events-log")
            return bool(consumer.num_ack_pending == 0)

        await rounds_until(healthy, done)
        assert codes(logged.verdict for logged in await log.events(name)) == [Code.OK]


async def test_the_writer_waits_and_fetches_little_while_the_database_is_down(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_PENDING_BATCHES", 5)
    monkeypatch.setattr(log_writer, "_BURST", 5)
    name = new_name()
    async with log.writer() as writer:
        admin_url = log.url.replace("/test_event_log", "/postgres", 1)

        def allow(connections: bool) -> None:
            with psycopg.connect(admin_url, autocommit=True) as connection:
                connection.execute(f"ALTER DATABASE test_event_log ALLOW_CONNECTIONS {connections}")
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test_event_log'"
                )

        allow(connections=False)
        try:
            for number in range(20):
                await log.append(f"away-{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
                await log.send_verdicts(f"away-{number}", b"")
            for _ in range(2):
                with pytest.raises(ServiceError):
                    await writer.round()
            assert len(writer._pending) == 5
            assert LAG._value.get() > 0
        finally:
            allow(connections=True)

        async def all_written() -> bool:
            try:
                await writer.round()
                return len(await log.events(name)) == 20
            except ServiceError:
                return False

        async with asyncio.timeout(SOON_SECONDS):
            while not await all_written():
                pass
        assert codes(logged.verdict for logged in await log.events(name)) == [Code.OK] * 20


async def test_missed_verdicts_are_found_in_the_stream(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_VERDICT_SECONDS", 0)
    name = new_name()
    await declare_streams(log.bus)
    for number in range(3):
        await log.append(f"missed-{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
        await log.send_verdicts(f"missed-{number}", b"")
    async with log.writer() as writer:  # a restarted one
        await writer.round()
    assert codes(logged.verdict for logged in await log.events(name)) == [None] * 3
    assert await VerdictBackfill(log.db, log.bus).backfill() == 3
    assert codes(logged.verdict for logged in await log.events(name)) == [Code.OK] * 3
    assert await VerdictBackfill(log.db, log.bus).backfill() == 0


async def test_replicas_share_the_batches_and_write_each_once(log: EventLog) -> None:
    name = new_name()
    async with log.writer() as one, log.writer() as other:
        for number in range(600):
            await log.append(f"shared-{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
            await log.send_verdicts(f"shared-{number}", b"")

        async def work(writer: LogWriter) -> None:
            while len(await log.events(name)) < 600:
                await writer.round()

        async with asyncio.timeout(SOON_SECONDS):
            await asyncio.gather(work(one), work(other))
        assert codes(logged.verdict for logged in await log.events(name)) == [Code.OK] * 600


async def test_a_batch_that_cannot_be_read_is_logged_and_does_not_stop_the_others(log: EventLog) -> None:
    name = new_name()
    async with log.writer() as writer:
        await log.bus.append("flyte.events.batch.no-lane", b"no batch", "garbage", {FINGERPRINTS_HEADER: "no marks"})
        await log.append("good", name, workflow_event("RUNNING", name=name))
        await log.send_verdicts("good", b"")

        async def written() -> bool:
            return bool(await log.events(name))

        await rounds_until(writer, written)

        async def logged() -> bool:
            with psycopg.connect(log.url) as connection:
                rows = connection.execute("SELECT payload, verdicts FROM event_log WHERE batch_id LIKE 'unreadable-%'")
                return rows.fetchall() == [(b"no batch", b"")]

        await rounds_until(writer, logged)


async def test_events_appended_before_the_first_start_of_executions_are_applied_and_logged(
    parts: Parts, tmp_path: Path
) -> None:
    with running_nats(tmp_path, free_port()) as url:
        fresh = Parts(parts.postgres_url, url, parts.folder)
        executions = await Executions.migrated(fresh, "test_event_log_first")
        settings = {"objects_url": executions.objects.uri(), "verdict_wait_seconds": 0.3}
        async with service("events", fresh, "test_event_log_first_events", **settings) as events:
            name = executions.create()
            admin = AdminServiceStub(events.channel)
            await send(admin, workflow_event("RUNNING", name=name))
            await send(admin, node_event("QUEUED", name=name))
            assert executions.phases(name) == ["UNDEFINED"]
            async with executions.replica():
                await until(lambda: executions.phases(name) == ["RUNNING", "QUEUED"])

                def logged() -> bool:
                    with psycopg.connect(events.settings.database_url) as connection:
                        rows = connection.execute("SELECT verdicts IS NOT NULL FROM event_log").fetchall()
                    return rows == [(True,), (True,)]

                await until(logged, SOON_SECONDS)


async def test_the_stream_of_a_former_release_is_replaced_once_it_is_empty(parts: Parts, tmp_path: Path) -> None:
    with running_nats(tmp_path, free_port()) as url:
        db, bus = await Database.open(parts.new_database("test_event_log_former")), await Bus.connect(url, "events")
        stream = bus._jetstream
        former = StreamConfig("EVENT_BATCHES", subjects=[SUBJECTS], retention=RetentionPolicy.WORK_QUEUE)
        await stream.add_stream(former)
        await bus.append(subject_of(3), b"waits", "id")
        with pytest.raises(FailedPrecondition, match="still holds 1 messages"):
            await replace_former_batches_stream(db, bus)
        assert await bus.append(subject_of(3), b"taken all the same", "id2") == 2
        await stream.purge_stream("EVENT_BATCHES")

        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def receive(delivery: Delivery) -> None:
            received.put_nowait(delivery.payload)

        running = await Bus.connect(url, "executions")  # of the former release, on the former stream
        await running.declare_stream(BATCHES_STREAM)
        await running.consume(BATCHES_STREAM, subject_of(3), "executions-event-lane-3", receive)
        await asyncio.gather(replace_former_batches_stream(db, bus), replace_former_batches_stream(db, bus))
        await declare_streams(bus)
        assert (await stream.stream_info("EVENT_BATCHES")).config.retention == "interest"
        await bus.append(subject_of(3), b"new", "id3")
        assert await asyncio.wait_for(received.get(), SOON_SECONDS) == b"new"
        await running.close()
        await bus.close()
        await db.close()
