"""Streams and consumers that are deleted while the services run come back, and nothing acknowledged is lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import grpc
import httpx
import psycopg
import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc.status_pb2 import Status
from nats.js.errors import NotFoundError

from services.contracts.event_batches import (
    BATCHES_STREAM,
    Batch,
    durable_of,
    encode_batch,
)
from services.contracts.executions import EVENT_REFUSED
from services.events.consumers.refusals import DURABLE as REFUSALS
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from tests.support.event_makers import node_event
from tests.support.event_path import Executions, send
from tests.support.parts import Parts, Served, free_port, running_nats, service
from tests.support.waiting import once_available, until

# Well within what the issue of a full disk allows, too.
BACK_SECONDS = 8
ANNOUNCEMENTS = announcements_of("executions").name


@pytest.fixture
def alone(parts: Parts, tmp_path: Path) -> Iterator[Parts]:
    """Run a NATS server for one test."""
    with running_nats(tmp_path / "nats", free_port()) as url:
        yield Parts(parts.postgres_url, url, parts.folder)


@pytest.fixture
async def executions(alone: Parts) -> Executions:
    return await Executions.migrated(alone, "test_lost_streams")


@pytest.fixture
async def events(alone: Parts, executions: Executions) -> AsyncIterator[Served]:
    async with service("events", alone, "test_lost_streams_events", objects_url=executions.objects.uri()) as served:
        yield served


@pytest.fixture
async def intruder(alone: Parts, events: Served) -> AsyncIterator[Bus]:
    """Yield a connection that deletes as `nats stream rm` and `nats consumer rm` would."""
    assert events
    bus = await Bus.connect(alone.nats_url, "test-lost-streams")
    yield bus
    await bus.close()


async def check_ready(events: Served) -> None:
    async with httpx.AsyncClient() as client, asyncio.timeout(BACK_SECONDS):
        while (await client.get(f"{events.http_url}/readyz")).status_code != httpx.codes.OK:
            pass


def applied(executions: Executions, name: str) -> bool:
    return executions.phases(name) == ["UNDEFINED", "QUEUED"]


def counted(database: psycopg.Connection, number: int) -> bool:
    return database.execute("SELECT count(*) FROM refused_events").fetchone() == (number,)


async def consumers(intruder: Bus, stream: str) -> set[str]:
    return {consumer.name for consumer in await intruder._jetstream.consumers_info(stream)}


async def consumers_are_back(intruder: Bus) -> bool:
    try:
        return await consumers(intruder, BATCHES_STREAM.name) == {durable_of(0)}
    except NotFoundError:
        return False


async def test_events_are_accepted_at_once_after_their_stream_was_deleted(
    events: Served, executions: Executions, intruder: Bus
) -> None:
    admin = AdminServiceStub(events.channel)
    async with executions.replica():
        for phase in ("QUEUED", "RUNNING"):
            name = executions.create()
            await intruder._jetstream.delete_stream(BATCHES_STREAM.name)
            await send(admin, node_event(phase, name=name))
            assert executions.phases(name) == ["UNDEFINED", phase]
        async with asyncio.timeout(BACK_SECONDS):
            while not await consumers_are_back(intruder):
                pass
        await check_ready(events)


async def test_batch_is_applied_or_unavailable_when_the_consumer_of_its_lane_was_deleted_before(
    events: Served, executions: Executions, intruder: Bus
) -> None:
    """The stream does not store it, so its caller must not receive OK: engines send it again."""
    admin = AdminServiceStub(events.channel)
    async with executions.replica():
        name = executions.create()
        await intruder._jetstream.delete_consumer(BATCHES_STREAM.name, durable_of(0))
        await once_available(lambda: send(admin, node_event("QUEUED", name=name)))
        await until(partial(applied, executions, name), BACK_SECONDS)
        async with asyncio.timeout(BACK_SECONDS):
            while not await consumers_are_back(intruder):
                pass


async def test_caller_of_a_batch_that_was_deleted_with_its_stream_gets_unavailable(
    events: Served, executions: Executions, intruder: Bus
) -> None:
    admin = AdminServiceStub(events.channel)
    name = executions.create()
    sending = asyncio.create_task(send(admin, node_event("QUEUED", name=name)))
    while not (await intruder._jetstream.stream_info(BATCHES_STREAM.name)).state.messages:
        pass
    await intruder._jetstream.delete_stream(BATCHES_STREAM.name)
    with pytest.raises(grpc.aio.AioRpcError) as lost:
        await sending
    assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
    async with executions.replica():
        await send(admin, node_event("QUEUED", name=name))
        assert executions.phases(name) == ["UNDEFINED", "QUEUED"]


async def test_announcements_reach_their_consumer_after_stream_and_consumer_were_deleted(
    events: Served, executions: Executions, intruder: Bus
) -> None:
    admin = AdminServiceStub(events.channel)
    with psycopg.connect(events.settings.database_url, autocommit=True) as database:
        async with executions.replica():
            for number in range(1, 4):
                with pytest.raises(grpc.aio.AioRpcError):
                    await send(admin, node_event("QUEUED", name="there-is-none"))
                await until(partial(counted, database, number), BACK_SECONDS)
                if number == 1:
                    await intruder._jetstream.delete_stream(ANNOUNCEMENTS)
                else:
                    await intruder._jetstream.delete_consumer(ANNOUNCEMENTS, REFUSALS)


def no_refusal() -> bytes:
    """Return an announcement of a refused event without the event."""
    status = Status()
    status.details.add().Pack(BytesValue(value=encode_batch(Batch("id/0", ()))))
    return status.SerializeToString()


async def test_announcement_that_cannot_be_read_blocks_no_other(
    events: Served, executions: Executions, intruder: Bus
) -> None:
    admin = AdminServiceStub(events.channel)
    with psycopg.connect(events.settings.database_url, autocommit=True) as database:
        async with executions.replica():
            for payload in (b"\xff", b"", no_refusal()):
                await intruder.append(EVENT_REFUSED.subject, payload, payload.hex())
            with pytest.raises(grpc.aio.AioRpcError):
                await send(admin, node_event("QUEUED", name="there-is-none"))
            await until(partial(counted, database, 1), BACK_SECONDS)


async def test_every_stream_and_consumer_is_created_again(
    events: Served, executions: Executions, intruder: Bus
) -> None:
    made = {
        BATCHES_STREAM.name: {durable_of(0)},
        ANNOUNCEMENTS: {REFUSALS},
    }
    async with executions.replica():
        for stream in made:
            await intruder._jetstream.delete_stream(stream)
        async with asyncio.timeout(BACK_SECONDS):
            while {stream.config.name for stream in await intruder._jetstream.streams_info()} != made.keys():
                pass
            for stream, wanted in made.items():
                while await consumers(intruder, stream) != wanted:
                    pass
    await check_ready(events)
