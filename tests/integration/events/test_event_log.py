"""The event log over real NATS and PostgreSQL: every batch once, with its verdicts, whoever was away."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import grpc
import psycopg
import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from nats.js.api import RetentionPolicy, StreamConfig

from services.contracts.event_batches import SUBJECTS, parse_verdict, subject_of, verdict
from services.contracts.event_fingerprints import HEADER as MARKS_HEADER
from services.events.consumers import log_writer
from services.events.consumers.log_writer import LAG, LogWriter
from services.events.ingest.streams import BATCHES, make_ready, replace_former
from services.events.jobs.missed_verdicts import VerdictBackfill
from services.kit.db.database import Database
from services.kit.errors import Code, FailedPrecondition, NotFound, ServiceError
from services.kit.messaging import streams
from services.kit.messaging.batch_consumer import BatchConsumer, Fetched
from services.kit.messaging.bus import Bus, Delivery
from tests.support.event_log import EventLog, event_log
from tests.support.event_makers import node_event, task_event, workflow_event
from tests.support.event_path import Executions, send
from tests.support.parts import Parts, free_port, running_nats, service
from tests.support.waiting import until

SOON_SECONDS = 20.0
# A writer that died is not waited for as long as in earnest.
ACK_WAIT_SECONDS = 0.5


@pytest.fixture(scope="module")
def own_parts(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """With a NATS of this module's own: the log's consumer is one for all that run on it."""
    with running_nats(tmp_path_factory.mktemp("nats"), free_port()) as url:
        yield Parts(parts.postgres_url, url, parts.folder)


@pytest.fixture
async def log(own_parts: Parts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EventLog]:
    monkeypatch.setattr(streams, "FETCHED_ACK_WAIT_SECONDS", ACK_WAIT_SECONDS)
    async with event_log(own_parts, "test_event_log") as opened:
        yield opened
        await opened.bus._stream.delete_stream("EVENT_BATCHES")  # the next test starts with nothing waiting


def new_name() -> str:
    return f"e{uuid.uuid4().hex[:12]}"


async def rounds_until(writer: LogWriter, condition: Callable[[], Awaitable[bool]]) -> None:
    """Let the writer work until the condition holds."""
    async with asyncio.timeout(SOON_SECONDS):
        while not await condition():
            await writer.round()


def codes(verdicts: Iterable[bytes | None]) -> list[int | None]:
    """What was answered; None is not known."""
    return [None if told is None else getattr(parse_verdict(told), "code", Code.OK) for told in verdicts]


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
            entries = await log.entries(name)
            told = codes(entry.verdict for entry in entries)
            assert told == [Code.OK] * 11 + [Code.ALREADY_EXISTS, Code.NOT_FOUND]
            assert [entry.received_at for entry in entries] == sorted(entry.received_at for entry in entries)
        assert len(log.days()) >= 4  # made ahead since the start
        await log.db.close()
        await log.bus.close()


async def test_a_batch_is_written_with_the_verdicts_that_came_before_it_was_fetched(log: EventLog) -> None:
    async with log.writer() as writer:
        name = new_name()
        await log.append("b1", name, workflow_event("RUNNING", name=name), node_event("QUEUED", name=name))
        await log.answer("b1", b"", verdict(NotFound("missing entity")))
        await until(lambda: "b1" in writer._heard)
        await writer.round()
        assert codes(entry.verdict for entry in await log.entries(name)) == [Code.OK, Code.NOT_FOUND]
        assert LAG._value.get() < 1


async def test_a_verdict_that_comes_late_completes_its_batch(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_VERDICT_SECONDS", 0.2)
    async with log.writer() as writer:
        name = new_name()
        await log.append("late", name, workflow_event("RUNNING", name=name))

        async def written() -> bool:
            return bool(await log.entries(name))

        await rounds_until(writer, written)
        assert codes(entry.verdict for entry in await log.entries(name)) == [None]
        await log.answer("late", b"")

        async def completed() -> bool:
            return codes(entry.verdict for entry in await log.entries(name)) == [Code.OK]

        await rounds_until(writer, completed)


class Killed(BatchConsumer):
    """The hand of a writer that is killed after its commit: the stream never hears that it was done."""

    async def done(self, fetched: Iterable[Fetched]) -> None:
        """Say nothing."""


async def test_a_writer_killed_between_commit_and_acknowledgement_leaves_one_row_which_still_gets_its_verdict(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_VERDICT_SECONDS", 0)
    name = new_name()
    async with log.writer() as healthy:
        await log.append("twice", name, workflow_event("RUNNING", name=name))
        killed = Killed(log.bus._client, "EVENT_BATCHES", "events-log")
        await killed.open()
        await LogWriter(log.db, killed, log.bus.mend).round()
        assert codes(entry.verdict for entry in await log.entries(name)) == [None]
        await log.answer("twice", b"")
        await until(lambda: "twice" in healthy._heard)

        async def done() -> bool:
            consumer = await log.bus._stream.consumer_info("EVENT_BATCHES", "events-log")
            return bool(consumer.num_ack_pending == 0)

        await rounds_until(healthy, done)
        assert codes(entry.verdict for entry in await log.entries(name)) == [Code.OK]


async def test_while_the_database_is_away_the_log_waits_and_holds_little(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_HELD_BATCHES", 5)
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
                await log.answer(f"away-{number}", b"")
            for _ in range(2):
                with pytest.raises(ServiceError):
                    await writer.round()
            assert len(writer._held) == 5
            assert LAG._value.get() > 0
        finally:
            allow(connections=True)

        async def all_written() -> bool:
            try:
                await writer.round()
                return len(await log.entries(name)) == 20
            except ServiceError:
                return False

        async with asyncio.timeout(SOON_SECONDS):
            while not await all_written():
                pass
        assert codes(entry.verdict for entry in await log.entries(name)) == [Code.OK] * 20


async def test_verdicts_that_nobody_heard_are_found_in_the_stream_that_keeps_them(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_VERDICT_SECONDS", 0)
    name = new_name()
    await make_ready(log.bus)
    for number in range(3):
        await log.append(f"missed-{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
        await log.answer(f"missed-{number}", b"")
    async with log.writer() as writer:  # a restarted one
        await writer.round()
    assert codes(entry.verdict for entry in await log.entries(name)) == [None] * 3
    assert await VerdictBackfill(log.db, log.bus).look() == 3
    assert codes(entry.verdict for entry in await log.entries(name)) == [Code.OK] * 3
    assert await VerdictBackfill(log.db, log.bus).look() == 0


async def test_replicas_share_the_work_and_write_each_batch_once(log: EventLog) -> None:
    name = new_name()
    async with log.writer() as one, log.writer() as other:
        for number in range(600):
            await log.append(f"shared-{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
            await log.answer(f"shared-{number}", b"")

        async def work(writer: LogWriter) -> None:
            while len(await log.entries(name)) < 600:
                await writer.round()

        async with asyncio.timeout(SOON_SECONDS):
            await asyncio.gather(work(one), work(other))
        assert codes(entry.verdict for entry in await log.entries(name)) == [Code.OK] * 600


async def test_a_batch_that_cannot_be_read_is_logged_and_does_not_stop_the_others(log: EventLog) -> None:
    name = new_name()
    async with log.writer() as writer:
        await log.bus.append("flyte.events.batch.no-lane", b"no batch", "garbage", {MARKS_HEADER: "no marks"})
        await log.append("good", name, workflow_event("RUNNING", name=name))
        await log.answer("good", b"")

        async def written() -> bool:
            return bool(await log.entries(name))

        await rounds_until(writer, written)

        async def logged() -> bool:
            with psycopg.connect(log.url) as connection:
                rows = connection.execute("SELECT payload, verdicts FROM event_log WHERE batch_id LIKE 'unreadable-%'")
                return rows.fetchall() == [(b"no batch", b"")]

        await rounds_until(writer, logged)


async def test_what_is_appended_before_executions_was_ever_started_is_applied_and_logged(
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


async def test_the_former_releases_stream_is_replaced_once_it_is_empty(parts: Parts, tmp_path: Path) -> None:
    with running_nats(tmp_path, free_port()) as url:
        db, bus = await Database.open(parts.new_database("test_event_log_former")), await Bus.connect(url, "events")
        stream = bus._stream
        former = StreamConfig("EVENT_BATCHES", subjects=[SUBJECTS], retention=RetentionPolicy.WORK_QUEUE)
        await stream.add_stream(former)
        await bus.append(subject_of(3), b"waits", "id")
        with pytest.raises(FailedPrecondition, match="still holds 1 messages"):
            await replace_former(db, bus)
        assert await bus.append(subject_of(3), b"taken all the same", "id2") == 2
        await stream.purge_stream("EVENT_BATCHES")

        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def hear(delivery: Delivery) -> None:
            heard.put_nowait(delivery.payload)

        running = await Bus.connect(url, "executions")  # of the former release, on the former stream
        await running.ensure(BATCHES)
        await running.consume(BATCHES, subject_of(3), "executions-event-lane-3", hear)
        await asyncio.gather(replace_former(db, bus), replace_former(db, bus))
        await make_ready(bus)
        assert (await stream.stream_info("EVENT_BATCHES")).config.retention == "interest"
        await bus.append(subject_of(3), b"new", "id3")
        assert await asyncio.wait_for(heard.get(), SOON_SECONDS) == b"new"
        await running.close()
        await bus.close()
        await db.close()
