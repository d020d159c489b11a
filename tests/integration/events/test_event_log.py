"""The event log over real NATS and PostgreSQL: every applied batch once, with its verdicts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import psycopg
import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from nats.js.api import RetentionPolicy, StreamConfig

from services.contracts.event_batches import BATCHES_STREAM, SUBJECTS, durable_of, subject_of
from services.events.consumers import log_writer
from services.events.consumers.log_writer import LAG
from services.events.ingest.streams import (
    FORMER_LOG_DURABLE,
    FORMER_VERDICTS_STREAM,
    declare_streams,
    replace_former_batches_stream,
)
from services.executions.consumers import requests
from services.kit.db.database import Database
from services.kit.errors import Code, FailedPrecondition
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery, pull_consumer_config
from tests.support.event_log import EventLog, apply, batch_of, event_log
from tests.support.event_makers import node_event, task_event, workflow_event
from tests.support.event_path import Executions, send
from tests.support.parts import Parts, free_port, running_nats, service
from tests.support.waiting import until

SOON_SECONDS = 20.0


@pytest.fixture(scope="module")
def own_parts(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Run a NATS for this module alone: a writer takes what any replica of executions on its NATS has applied."""
    with running_nats(tmp_path_factory.mktemp("nats"), free_port()) as url:
        yield Parts(parts.postgres_url, url, parts.folder)


@pytest.fixture
async def log(own_parts: Parts) -> AsyncIterator[EventLog]:
    async with event_log(own_parts, "test_event_log") as opened:
        yield opened


async def test_every_event_is_logged_once_with_its_verdict(own_parts: Parts) -> None:
    executions = await Executions.migrated(own_parts, "test_event_log_applied")
    async with (
        executions.replica(),
        service("events", own_parts, "test_event_log_events", objects_url=executions.objects.uri()) as events,
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
        log = EventLog(url, await Database.open(url), await Bus.connect(own_parts.nats_url, "test"), executions)
        for name in names:
            assert await log.codes(name) == [Code.OK] * 11 + [Code.ALREADY_EXISTS, Code.NOT_FOUND]
            times = [logged.received_at for logged in await log.events(name)]
            assert times == sorted(times)
        assert len(log.partitions()) >= 4  # created ahead since the start
        await log.db.close()
        await log.bus.close()


async def test_a_batch_applied_while_events_is_down_is_logged_after_its_start(parts: Parts, tmp_path: Path) -> None:
    """And one that was stored in the stream before the first start of executions is applied and logged."""
    with running_nats(tmp_path, free_port()) as url:
        fresh = Parts(parts.postgres_url, url, parts.folder)
        executions = await Executions.migrated(fresh, "test_event_log_first")
        settings = {"objects_url": executions.objects.uri(), "verdict_wait_seconds": 3}
        name = executions.create()
        async with service("events", fresh, "test_event_log_before", **settings) as events:
            admin = AdminServiceStub(events.channel)
            await send(admin, workflow_event("RUNNING", name=name))
            await send(admin, node_event("QUEUED", name=name))
            assert executions.phases(name) == ["UNDEFINED"]
        async with executions.replica():
            await until(lambda: executions.phases(name) == ["RUNNING", "QUEUED"])
            async with service("events", fresh, "test_event_log_after", **settings) as events:

                def logged() -> bool:
                    with psycopg.connect(events.settings.database_url) as connection:
                        rows = connection.execute("SELECT verdicts IS NOT NULL FROM event_log").fetchall()
                    return rows == [(True,), (True,)]

                await until(logged, SOON_SECONDS)


async def test_a_round_writes_all_batches_with_their_verdicts_and_the_next_deletes_them(log: EventLog) -> None:
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as writer:
        late = node_event("QUEUED", node="late", name="there-is-none")
        await apply(replica, "b1", name, workflow_event("RUNNING", name=name), late)
        writer.wake()
        await writer.round()
        assert await log.codes(name) == [Code.OK, Code.NOT_FOUND]
        assert LAG._value.get() == 0
        await writer.round()
        assert log.waiting() == 0


async def test_a_verdict_wakes_the_writer(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_POLL_SECONDS", 3600)
    monkeypatch.setattr(log_writer, "_COLLECT_SECONDS", 0.1)
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as writer:
        await apply(replica, "before", name, node_event("QUEUED", name=name))
        running = asyncio.create_task(writer.run())
        await log.until_logged(name, 1)  # at its start, it takes what there is
        for number in range(2, 5):
            await apply(replica, f"b{number}", name, node_event("QUEUED", node=f"n{number}", name=name))
            writer.wake()
            await log.until_logged(name, number)
        running.cancel()


async def test_a_batch_whose_verdicts_were_lost_is_logged_by_the_next_poll(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_POLL_SECONDS", 0.1)
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as writer:
        running = asyncio.create_task(writer.run())
        await apply(replica, "lost", name, node_event("QUEUED", name=name))
        await log.until_logged(name, 1)
        running.cancel()


async def test_drain_writes_what_was_applied_since_the_last_round(log: EventLog) -> None:
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as writer:
        await writer.round()
        await apply(replica, "last", name, node_event("QUEUED", name=name))
        writer.wake()
        await writer.drain()
    assert await log.codes(name) == [Code.OK]


async def test_replicas_at_the_same_time_write_each_batch_once_and_lose_none(log: EventLog) -> None:
    name = log.executions.create()
    total = 150
    async with log.executions.replica() as replica, log.writer() as one, log.writer() as other:

        async def apply_all() -> None:
            for number in range(total):
                await apply(replica, f"shared-{number}", name, node_event("QUEUED", node=f"n{number}", name=name))

        applying = asyncio.create_task(apply_all())
        async with asyncio.timeout(SOON_SECONDS):
            while not applying.done() or log.waiting():
                await asyncio.gather(one.round(), other.round())
        await applying
    assert len(log.rows()) == total
    assert await log.codes(name) == [Code.OK] * total


async def test_a_batch_delivered_again_has_one_row(log: EventLog) -> None:
    name = log.executions.create()
    delivery = batch_of("again", name, node_event("QUEUED", name=name))
    async with log.executions.replica() as replica, log.writer() as writer:
        for _ in range(2):
            await replica.apply_delivery(0, delivery)
        assert log.waiting() == 1
        await writer.round()
    assert await log.codes(name) == [Code.OK]


async def test_a_replica_that_stalled_with_a_batch_stores_no_second_row(log: EventLog) -> None:
    name = log.executions.create()
    first, second = (batch_of(phase, name, node_event(phase, name=name)) for phase in ("QUEUED", "RUNNING"))
    async with log.executions.replica() as stalled, log.executions.replica() as other, log.writer() as writer:
        await stalled.apply_delivery(0, first)
        await other.apply_delivery(0, second)
        await stalled.apply_delivery(0, second)  # it has cached the rows before it
        assert log.waiting() == 2
        await writer.round()
    assert [row[0] for row in log.rows()] == ["QUEUED", "RUNNING"]


async def test_a_batch_applied_one_by_one_is_logged_with_each_verdict(log: EventLog) -> None:
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as writer:
        bad = node_event("QUEUED", node="bad\0node", name=name)
        await apply(replica, "mixed", name, node_event("QUEUED", name=name), bad)
        await writer.round()
    assert await log.codes(name) == [Code.OK, Code.INVALID_ARGUMENT]


@pytest.mark.parametrize("batch_id", ["", "nul\0", "line\n"])
async def test_a_batch_whose_id_cannot_be_stored_gets_another(log: EventLog, batch_id: str) -> None:
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as writer:
        await apply(replica, batch_id, name, node_event("QUEUED", name=name))
        await writer.round()
    assert await log.codes(name) == [Code.OK]
    ((stored, _, _),) = log.rows()
    assert str(stored).startswith("unreadable-")


async def test_a_batch_that_cannot_be_read_is_logged_and_does_not_stop_the_others(log: EventLog) -> None:
    name = log.executions.create()
    async with log.executions.replica() as replica, log.writer() as writer:
        broken = batch_of("good", name, workflow_event("RUNNING", name=name))
        for _ in range(2):  # its acknowledgement was lost
            await replica.apply_delivery(0, Delivery(broken.subject, b"no batch", 7, broken.stored_at))
        await apply(replica, "good", name, workflow_event("RUNNING", name=name))
        await writer.round()
    assert await log.codes(name) == [Code.OK]
    assert [row for row in log.rows() if row[0] != "good"] == [("unreadable-7", b"no batch", b"")]


async def test_batches_beyond_one_reply_and_larger_than_a_message_are_logged(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "PART_BYTES", 10_000)
    name = log.executions.create()
    sizes = [100, 4_000, 4_000, 35_000, 10_000, 100, 9_900, 20_000]
    async with log.executions.replica() as replica, log.writer() as one, log.writer() as other:
        for number, size in enumerate(sizes):
            event = node_event("QUEUED", node=f"n{number}", name=name, input_uri="x" * size)
            await apply(replica, f"b{number}", name, event)
        async with asyncio.timeout(SOON_SECONDS):
            while log.waiting():
                await asyncio.gather(one.round(), other.round())
    assert await log.codes(name) == [Code.OK] * len(sizes)


async def test_what_the_log_of_the_former_release_had_in_nats_is_deleted(parts: Parts, tmp_path: Path) -> None:
    with running_nats(tmp_path, free_port()) as url:
        fresh = Parts(parts.postgres_url, url, parts.folder)
        bus = await Bus.connect(url, "events-before")
        await bus.declare_stream(BATCHES_STREAM, [pull_consumer_config(SUBJECTS, FORMER_LOG_DURABLE)])
        await bus._jetstream.add_stream(StreamConfig(FORMER_VERDICTS_STREAM, subjects=["flyte.events.verdicts.*"]))
        await bus.append(subject_of(0), b"not logged", "id")
        async with service("events", fresh, "test_event_log_former", objects_url=f"file://{tmp_path}/objects"):
            consumers = await bus._jetstream.consumers_info(BATCHES_STREAM.name)
            assert [consumer.name for consumer in consumers] == [durable_of(0)]
            streams = {stream.config.name for stream in await bus._jetstream.streams_info()}
            assert streams == {BATCHES_STREAM.name, announcements_of("executions").name}
        await bus.close()


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
