"""Death of the executions service between any two steps of a call: afterwards all of it happened or nothing."""

import asyncio
import os
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.execution_pb2 import (
    ExecutionRecoverRequest,
    ExecutionTerminateRequest,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.launch_plan_pb2 import CONCURRENCY_LIMIT_BEHAVIOR_SKIP, ConcurrencyPolicy
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import ResourceType, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.message import Message

from services.contracts.executions import EXECUTION_CREATED, EXECUTION_TERMINATED
from services.kit.messaging.bus import Bus
from services.kit.messaging.messages import Announcement
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery
from tests.support.entities import identifier, literals
from tests.support.executions import (
    execution_id,
    generated_launch_plan,
    launch,
    registered_launch_plan,
    registry_with,
)
from tests.support.parts import START_SECONDS, Parts, free_port, service
from tests.support.refusals import refused
from tests.support.sandbox import ROOT
from tests.support.waiting import until

Points = list[tuple[str, bool]]

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
# A channel that cannot connect tries again soon, and shares no connection with a former one to a process that died.
AT_ONCE = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.use_local_subchannel_pool", 1),
]
LIMITED = ConcurrencyPolicy(max=1000, behavior=CONCURRENCY_LIMIT_BEHAVIOR_SKIP)
LIMITED_ID = identifier(ResourceType.LAUNCH_PLAN, "limited")
TASK_ID = identifier(ResourceType.TASK, "my.task")

# The point at which the service dies, and whether the call has happened by then.
LAUNCH = [
    ("before Projects.get", False),
    ("after EntityLease.entity", False),
    ("before Launcher._write_inputs", False),
    ("after ObjectStore.put", False),
    ("after Launcher._write_inputs", False),
    ("before launches.insert", False),
    ("after launches.insert", True),
    ("after GroupCommit.store", True),
    ("before Bus.append", True),
    ("after Bus.append", True),
]
# Its row is written in a transaction that the service then does not commit.
LIMITED_LAUNCH = [("before launches.insert", False), ("after launches.insert", False)]
TASK_LAUNCH = [("after EntityLease.entity", False), ("after launches.insert", True)]
RECOVERY = [
    ("after ExecutionHandlers._source", False),
    ("after ObjectStore.get", False),
    ("after ObjectStore.put", False),
    ("before launches.insert", False),
    ("after launches.insert", True),
    ("after GroupCommit.store", True),
    ("after Bus.append", True),
]
TERMINATION = [
    ("after executions.lock", False),
    ("before Outbox.put", False),
    ("after Outbox.put", False),
    ("after ExecutionHandlers.TerminateExecution", True),
    ("before Bus.append", True),
    ("after Bus.append", True),
]


@dataclass
class Mortal:
    """A service that dies at a given point and starts again."""

    target: str
    folder: Path
    database_url: str
    announcements: Counter[tuple[str, str]]
    """How often each announcement was published, by its subject and the execution's name."""

    @property
    def deaths(self) -> int:
        """The number of deaths so far."""
        tally = self.folder / "deaths"
        return int(tally.read_text() or 0) if tally.exists() else 0

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[AdminServiceStub]:
        """Yield a stub of AdminService once the service accepts calls."""
        async with grpc.aio.insecure_channel(self.target, options=AT_ONCE) as channel:
            await asyncio.wait_for(channel.channel_ready(), START_SECONDS)
            yield AdminServiceStub(channel)

    async def interrupted(self, point: str, call: str, request: Message) -> grpc.StatusCode:
        """Make a call during or after which the service dies at `point`; return its code once the outbox is empty."""
        async with self.ready() as admin:
            before = self.deaths
            (self.folder / "armed").write_text(point)
            code = OK
            try:
                await getattr(admin, call)(request)
            except grpc.aio.AioRpcError as error:
                code = error.code()
            await until(lambda: self.deaths > before, START_SECONDS)
        async with self.ready():
            await self.published()
        return code

    async def published(self) -> None:
        """Wait until the outbox is empty."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            await until(lambda: connection.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is None)

    def stored(self, name: str) -> tuple[int, int]:
        """Return the number of executions with this name, and of their tags."""
        counted = (
            "SELECT (SELECT count(*) FROM executions WHERE execution_name = %(name)s),"
            " (SELECT count(*) FROM execution_tags WHERE execution_name = %(name)s)"
        )
        with psycopg.connect(self.database_url) as connection:
            executions, tags = connection.execute(counted, {"name": name}).fetchone() or (0, 0)
            return executions, tags


@pytest.fixture(scope="module")
async def mortal(parts: Parts) -> AsyncIterator[Mortal]:
    folder = parts.folder / "interrupted-launches"
    folder.mkdir()
    url, port = await asyncio.to_thread(parts.migrated_database, "executions", "interrupted_launches"), free_port()
    settings = {
        "DATABASE_URL": url,
        "NATS_URL": parts.nats_url,
        "GRPC_ADDRESS": f"127.0.0.1:{port}",
        "HTTP2_ADDRESS": f"127.0.0.1:{free_port()}",
        "HTTP_ADDRESS": f"127.0.0.1:{free_port()}",
        "OBJECTS_URL": f"file://{folder}/objects",
        "SIGNING_KEY": "key",
        "DRAIN_SECONDS": "1",
    }
    env = os.environ | {f"FLYTEPLANE_{key}": value for key, value in settings.items()}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service("projects", parts, "interrupted_projects"))
        plans = (
            registered_launch_plan(),
            registered_launch_plan("limited", concurrency_policy=LIMITED),
            generated_launch_plan("my.task"),
        )
        registry = await stack.enter_async_context(registry_with(parts.nats_url, *plans))
        announcements = await counted_announcements(registry)
        command = (sys.executable, "-m", "tests.support.fault_points", str(folder))
        process = await asyncio.create_subprocess_exec(*command, env=env, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
        try:
            yield Mortal(f"127.0.0.1:{port}", folder, url, announcements)
        finally:
            process.terminate()
            await process.wait()


async def counted_announcements(bus: Bus) -> Counter[tuple[str, str]]:
    """Count the announcements about executions from now on."""
    counts: Counter[tuple[str, str]] = Counter()
    await bus.declare_stream(announcements_of("executions"))
    for kind in (EXECUTION_CREATED, EXECUTION_TERMINATED):

        async def take(delivery: Delivery, kind: Announcement[WorkflowExecutionIdentifier] = kind) -> None:
            counts[kind.subject, kind.message.FromString(delivery.payload).name] += 1

        verb = kind.subject.rpartition(".")[2]
        await bus.consume(announcements_of("executions"), kind.subject, f"test-interrupted-{verb}", take)
    return counts


def cases(points: Points, **launched: Any) -> Iterator[Any]:
    for point, happens in points:
        yield pytest.param(launched, point, happens, id="-".join((*launched, point)).replace(" ", "-"))


def name_of(request: pytest.FixtureRequest) -> str:
    """Return a name that only this test uses."""
    return f"f{zlib.crc32(request.node.name.encode()):08x}"


async def check_launched(mortal: Mortal, name: str, a: Any) -> None:
    """Check that one execution is stored: its row and tags, its announcement, its inputs."""
    assert mortal.stored(name) == (1, 2)
    await until(lambda: mortal.announcements[EXECUTION_CREATED.subject, name] > 0)
    assert mortal.announcements[EXECUTION_CREATED.subject, name] == 1
    async with mortal.ready() as admin:
        data = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id(name)))
    assert data.full_inputs.literals["a"] == literals(a=a).literals["a"]


@pytest.mark.parametrize(
    ("launched", "point", "happens"),
    [*cases(LAUNCH), *cases(LIMITED_LAUNCH, launches=LIMITED_ID), *cases(TASK_LAUNCH, launches=TASK_ID)],
)
async def test_interrupted_launch_happens_whole_or_not_at_all(
    request: pytest.FixtureRequest, mortal: Mortal, launched: dict[str, Any], point: str, *, happens: bool
) -> None:
    name = name_of(request)
    given: tuple[Any, Any] = ("first", "second") if launched.get("launches") == TASK_ID else (1, 2)
    first, second = (launch(name, literals(a=a), tags=["x", "y"], **launched) for a in given)
    code = await mortal.interrupted(point, "CreateExecution", first)
    assert happens or code is UNAVAILABLE
    assert mortal.stored(name) == ((1, 2) if happens else (0, 0))
    async with mortal.ready() as admin:
        if happens:
            await refused(admin.CreateExecution(second), grpc.StatusCode.ALREADY_EXISTS)
        else:
            await admin.CreateExecution(second)
    await mortal.published()
    await check_launched(mortal, name, given[0] if happens else given[1])


@pytest.mark.parametrize(("point", "happens"), RECOVERY)
async def test_interrupted_recovery_happens_whole_or_not_at_all(
    request: pytest.FixtureRequest, mortal: Mortal, point: str, *, happens: bool
) -> None:
    name = name_of(request)
    source = f"{name}-source"
    recovery = ExecutionRecoverRequest(id=execution_id(source), name=name)
    async with mortal.ready() as admin:
        await admin.CreateExecution(launch(source, literals(a=3), tags=["x", "y"]))
    await mortal.published()
    code = await mortal.interrupted(point, "RecoverExecution", recovery)
    assert happens or code is UNAVAILABLE
    assert mortal.stored(name) == ((1, 2) if happens else (0, 0))
    async with mortal.ready() as admin:
        if happens:
            await refused(admin.RecoverExecution(recovery), grpc.StatusCode.ALREADY_EXISTS)
        else:
            await admin.RecoverExecution(recovery)
    await mortal.published()
    await check_launched(mortal, name, 3)
    await check_launched(mortal, source, 3)


@pytest.mark.parametrize(("point", "happens"), TERMINATION)
async def test_interrupted_termination_happens_whole_or_not_at_all(
    request: pytest.FixtureRequest, mortal: Mortal, point: str, *, happens: bool
) -> None:
    name = name_of(request)
    get = WorkflowExecutionGetRequest(id=execution_id(name))
    termination = ExecutionTerminateRequest(id=execution_id(name), cause="enough")
    async with mortal.ready() as admin:
        await admin.CreateExecution(launch(name))
    await mortal.published()
    code = await mortal.interrupted(point, "TerminateExecution", termination)
    assert happens or code is UNAVAILABLE
    async with mortal.ready() as admin:
        closure = (await admin.GetExecution(get)).closure
        assert (closure.phase != WorkflowExecution.UNDEFINED) is happens
        assert closure.abort_metadata.cause == ("enough" if happens else "")
        if not happens:
            assert not mortal.announcements[EXECUTION_TERMINATED.subject, name]
            await admin.TerminateExecution(termination)
    await mortal.published()
    await until(lambda: mortal.announcements[EXECUTION_TERMINATED.subject, name] > 0)
    assert mortal.announcements[EXECUTION_TERMINATED.subject, name] == 1
