"""Batches that go directly to executions, and their way through the stream when that does not work."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from nats.js.client import JetStreamContext

from services.contracts.event_batches import (
    AFTER_HEADER,
    BATCHES_STREAM,
    VERDICT_SUBJECT_HEADER,
    Batch,
    batch_id,
    decode_verdicts,
    direct_subject_of,
    encode_batch,
    verdict_subject_of,
)
from services.kit.db.session_lock import session_lock
from services.kit.messaging.bus import Bus
from tests.support.event_makers import batched, node_event, workflow_event
from tests.support.event_path import Executions, send
from tests.support.parts import Parts, Served, service
from tests.support.waiting import until

PHASES = ("QUEUED", "RUNNING", "SUCCEEDED")


@pytest.fixture(scope="module")
async def executions(parts: Parts) -> Executions:
    return await Executions.migrated(parts, "test_direct_batches")


@pytest.fixture(scope="module")
async def events(parts: Parts, executions: Executions) -> AsyncIterator[Served]:
    async with service("events", parts, "test_direct", objects_url=executions.objects.uri()) as running:
        yield running


@pytest.fixture(scope="module")
def admin(events: Served) -> AdminServiceStub:
    return AdminServiceStub(events.channel)


@pytest.fixture
def jetstream(bus: Bus) -> JetStreamContext:
    return bus._jetstream


async def in_stream(jetstream: JetStreamContext) -> int:
    """Return the sequence of the last message that the stream has ever stored."""
    return (await jetstream.stream_info(BATCHES_STREAM.name)).state.last_seq or 0


async def owned(executions: Executions) -> None:
    """Wait until a replica owns the lane."""

    def locks() -> int:
        with psycopg.connect(executions.url) as connection:
            statement = (
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            row = connection.execute(statement).fetchone()
            return int(row[0]) if row else 0

    await until(lambda: locks() == 1)


async def test_events_are_applied_without_the_stream(
    admin: AdminServiceStub, executions: Executions, jetstream: JetStreamContext
) -> None:
    name = executions.create()
    async with executions.replica():
        await owned(executions)
        await send(admin, workflow_event("RUNNING", name=name))  # executions replies from now on
        before = await in_stream(jetstream)
        for phase in PHASES:
            await send(admin, node_event(phase, name=name))
            assert executions.phases(name) == ["RUNNING", phase]
        assert await in_stream(jetstream) == before


async def test_another_replica_takes_over_and_no_event_is_lost(admin: AdminServiceStub, executions: Executions) -> None:
    names = [executions.create() for _ in range(3)]
    async with executions.replica():
        async with executions.replica():
            await owned(executions)
            for name in names:
                await send(admin, workflow_event("RUNNING", name=name))
                await send(admin, node_event("QUEUED", name=name))
        for name in names:
            await send(admin, node_event("RUNNING", name=name))
    for name in names:
        await send(admin, node_event("SUCCEEDED", name=name))  # OK: it is in the stream
    async with executions.replica():
        await until(lambda: all(executions.phases(name) == ["RUNNING", "SUCCEEDED"] for name in names))


async def test_events_are_direct_again_after_a_backlog(
    admin: AdminServiceStub, executions: Executions, jetstream: JetStreamContext
) -> None:
    name = executions.create()
    await send(admin, workflow_event("RUNNING", name=name))  # OK: it is in the stream
    async with executions.replica():
        await until(lambda: executions.phases(name) == ["RUNNING"])
        await owned(executions)
        await send(admin, node_event("QUEUED", name=name))
        before = await in_stream(jetstream)
        await send(admin, node_event("RUNNING", name=name))
        assert await in_stream(jetstream) == before
        assert executions.phases(name) == ["RUNNING", "RUNNING"]


class Sender:
    """A sender of direct batches that the test numbers."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus = bus
        self._name = name
        self._replies: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> None:
        await self._bus.subscribe(verdict_subject_of(self._name), self._replies.put)

    async def send(self, number: int, after: int, execution: str, phase: str) -> int | None:
        """Send a batch of one event; return the number of its verdicts, None when no replica received it."""
        batch = Batch(batch_id(self._name, number), (batched(node_event(phase, name=execution)),))
        headers = {VERDICT_SUBJECT_HEADER: verdict_subject_of(self._name), AFTER_HEADER: str(after)}
        reply = verdict_subject_of(self._name)
        await self._bus.send(direct_subject_of(0), encode_batch(batch), headers, reply=reply)
        data = await asyncio.wait_for(self._replies.get(), 15)
        if not data:
            return None
        verdicts = decode_verdicts(data)
        assert verdicts.id == batch.id
        return len(verdicts.statuses)


async def test_a_direct_batch_is_applied_once_and_after_the_one_that_it_names(
    executions: Executions, parts: Parts
) -> None:
    name = executions.create()
    bus = await Bus.connect(parts.nats_url, "events")
    sender = Sender(bus, "numbered")
    await sender.open()
    try:
        assert await sender.send(1, 0, name, "QUEUED") is None
        async with executions.replica():
            await owned(executions)
            while (verdicts := await sender.send(1, 0, name, "QUEUED")) is None:
                pass  # the owner of the lane subscribes only now
            assert verdicts == 1
            assert await sender.send(3, 2, name, "SUCCEEDED") == 0  # the one before it is not applied
            assert executions.phases(name) == ["UNDEFINED", "QUEUED"]
            assert await sender.send(2, 1, name, "RUNNING") == 1
            assert await sender.send(1, 0, name, "QUEUED") == 1  # again: the verdicts that it had
            assert executions.phases(name) == ["UNDEFINED", "RUNNING"]
            assert await sender.send(3, 2, name, "SUCCEEDED") == 1
            assert executions.phases(name) == ["UNDEFINED", "SUCCEEDED"]
    finally:
        await bus.close()


async def test_a_session_lock_passes_on_when_its_connection_is_gone(executions: Executions) -> None:
    order: list[str] = []

    async def hold(name: str) -> None:
        async with session_lock(executions.url, 7) as lock:
            order.append(name)
            await lock.until_lost()

    first = asyncio.create_task(hold("first"))
    await until(lambda: order == ["first"])
    second = asyncio.create_task(hold("second"))
    with psycopg.connect(executions.url) as connection:
        await until(lambda: connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,))
        assert order == ["first"]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 7"
        )
        connection.commit()
    await until(lambda: order == ["first", "second"])
    await asyncio.wait_for(first, 15)
    second.cancel()
