"""The event path while NATS is suspended, killed, or down."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from flyteidl.admin.event_pb2 import NodeExecutionEventRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.errors import Unavailable
from services.kit.messaging.bus import Bus
from services.kit.messaging.messages import Stream
from tests.support.event_makers import node_event
from tests.support.event_path import Executions, send
from tests.support.parts import Parts, free_port, running_nats, service
from tests.support.waiting import until

HOUR = 3600.0
# Below the default; an append that was lost must be repeated within it.
APPEND_WAIT_SECONDS = 4.0


@dataclass
class Nats:
    """A NATS server to suspend and kill; it starts again on the same port with the same files."""

    folder: Path
    port: int

    @contextmanager
    def running(self) -> Iterator[psutil.Process]:
        """Run the server until the end of the block and yield its process."""
        with running_nats(self.folder, self.port):
            (process,) = (
                child for child in psutil.Process().children() if child.cmdline()[-2:] == ["-p", str(self.port)]
            )
            yield process

    @property
    def unread(self) -> bool:
        """Return whether its sockets have bytes that it has not read, by the kernel's tables."""
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        local, queues = 1, 4
        return any(
            int(fields[local].partition(":")[2], 16) == self.port and int(fields[queues].partition(":")[2], 16) > 0
            for fields in sockets
        )

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


@pytest.fixture
def nats(tmp_path: Path) -> Nats:
    return Nats(tmp_path / "nats", free_port())


@pytest.fixture
async def executions(parts: Parts, nats: Nats) -> Executions:
    made = await Executions.migrated(parts, "test_interrupted")
    return Executions(made.url, nats.url, made.objects)


@pytest.fixture
async def admin(parts: Parts, nats: Nats, executions: Executions) -> AsyncIterator[AdminServiceStub]:
    """Run an events service that is connected; the test stops and starts its NATS."""
    settings = {"objects_url": executions.objects.uri(), "append_wait_seconds": APPEND_WAIT_SECONDS}
    elsewhere = Parts(parts.postgres_url, nats.url, parts.folder)
    async with service("events", elsewhere, "test_interrupted_events", **settings) as served:
        yield AdminServiceStub(served.channel)


@pytest.fixture
def process(nats: Nats) -> Iterator[psutil.Process]:
    with nats.running() as running:
        yield running
        with suppress(psutil.NoSuchProcess):
            running.resume()


async def test_an_append_in_flight_when_nats_is_killed_is_repeated(
    process: psutil.Process, nats: Nats, admin: AdminServiceStub, executions: Executions
) -> None:
    name = executions.create()
    process.suspend()
    sending = asyncio.create_task(send(admin, node_event("QUEUED", name=name)))
    await until(lambda: nats.unread)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with nats.running():
        async with executions.replica():
            await sending
    assert executions.phases(name) == ["UNDEFINED", "QUEUED"]


async def test_an_event_whose_caller_has_gone_is_not_sent(
    process: psutil.Process, nats: Nats, admin: AdminServiceStub, executions: Executions
) -> None:
    name = executions.create()
    async with executions.replica():
        process.suspend()
        first = asyncio.create_task(send(admin, node_event("QUEUED", name=name)))
        await until(lambda: nats.unread)
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await admin.CreateNodeEvent(NodeExecutionEventRequest(event=node_event("RUNNING", name=name)), timeout=0.5)
        process.resume()
        await first
        await send(admin, node_event("QUEUED", node="n1", name=name))  # of the same lane, so all before it is done
    assert gone.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert executions.phases(name) == ["UNDEFINED", "QUEUED", "QUEUED"]


async def test_an_append_refused_while_nats_is_down_does_not_arrive_later(nats: Nats) -> None:
    stream = Stream("LATE", ("late.*",), HOUR)
    with nats.running():
        bus = await Bus.connect(nats.url, "test")
        await bus.declare_stream(stream)
    await until(lambda: not bus.connected)
    with pytest.raises(Unavailable):
        await bus.append("late.a", b"1", "1")
    with nats.running():
        await until(lambda: bus.connected)
        assert await bus.append("late.a", b"2", "2") == 1
        await bus.close()
