"""A full disk under PostgreSQL, NATS, the object store or all of the sandbox: what clients are told, and the way back.

Each has a small disk of its own, which takes a mount, so only root can run these.
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import psycopg
import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.event_pb2 import WorkflowExecutionEventRequest
from flyteidl.admin.execution_pb2 import Execution, WorkflowExecutionGetRequest
from flyteidl.admin.project_pb2 import Project, ProjectRegisterRequest
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from deploy.sandbox import postgres
from deploy.sandbox.layout import Layout
from tests.integration.stack import launched
from tests.support import entities
from tests.support.sandbox import Sandbox, running_sandbox
from tests.support.waiting import until

# Megabytes: PostgreSQL has five databases and some segments of 16 MB.
DISKS = {"": 24, "postgres": 320, "nats": 24, "objects": 8}
# Longer than any service takes to say that it cannot.
CALL_SECONDS = 14
BACK_SECONDS = 30
APPLIED_SECONDS = 60
# Between two looks, so that looking does not keep the services from what is waited for.
LOOK_SECONDS = 0.05
FULL_SECONDS = 25
# Executions to report on, until the stream has filled the block that it has.
LAUNCHED = 100
BLOCK = b"\0" * 4096
# Room for a page or two at a time, until pages, segments and blocks that are there already are used up.
DESCRIPTION = "x" * 20_000


@contextlib.contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a disk of its own takes a mount, which is refused here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def small() -> Iterator[Sandbox]:
    """A sandbox on small disks."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True)))
        for name, megabytes in DISKS.items():
            if name:
                Layout(root).prepare()
            stack.enter_context(disk(root / name, megabytes))
        yield stack.enter_context(running_sandbox(root))


@contextlib.contextmanager
def full(*folders: Path) -> Iterator[None]:
    """Fill the disks of `folders` to the last byte until the end of the block."""
    ballasts = [folder / "ballast" for folder in folders]
    try:
        for ballast in ballasts:
            descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
            try:
                with contextlib.suppress(OSError):
                    while True:
                        os.write(descriptor, BLOCK)
            finally:
                os.close(descriptor)
            space = os.statvfs(ballast)
            assert space.f_bavail == 0, "the disk is not full"
        yield
    finally:
        for ballast in ballasts:
            ballast.unlink()


@dataclass
class Client:
    """Writes of every kind, and what of them was acknowledged."""

    admin: AdminServiceStub
    plan: Identifier
    number: int = 0
    launched: list[WorkflowExecutionIdentifier] = field(default_factory=list)
    running: list[WorkflowExecutionIdentifier] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    projects: list[str] = field(default_factory=list)

    async def launch(self) -> None:
        self.launched.append(await launched.launch(self.admin, self.plan))

    async def report(self) -> None:
        """Say of the oldest execution that runs not yet that it runs."""
        execution = self.launched[len(self.running)]
        request = WorkflowExecutionEventRequest()
        request.event.execution_id.CopyFrom(execution)
        request.event.phase = WorkflowExecution.RUNNING
        request.event.occurred_at.GetCurrentTime()
        try:
            await self.admin.CreateWorkflowEvent(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:  # a try before, of which nobody was told
                raise
        self.running.append(execution)

    async def register(self) -> None:
        self.number += 1
        name = f"full.task{self.number}"
        request = entities.task(name, {}, {})
        request.spec.template.container.args.append(DESCRIPTION)
        await self.admin.CreateTask(request, timeout=CALL_SECONDS)
        self.tasks.append(name)

    async def found(self) -> None:
        self.number += 1
        name = f"full-{self.number}"
        project = Project(id=name, name=name, description=DESCRIPTION[:250])
        await self.admin.RegisterProject(ProjectRegisterRequest(project=project), timeout=CALL_SECONDS)
        self.projects.append(name)

    @property
    def writes(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (self.launch, self.report, self.register, self.found)

    async def check_nothing_is_lost(self) -> None:
        """Raise TimeoutError unless all is there; an event that waited in the stream is applied within the time."""
        async with asyncio.timeout(APPLIED_SECONDS):
            for execution in self.launched:
                wanted = WorkflowExecution.RUNNING if execution in self.running else WorkflowExecution.UNDEFINED
                while await self._phase(execution) != wanted:  # noqa: ASYNC110  # a phase sends no event
                    await asyncio.sleep(LOOK_SECONDS)
        for name in self.tasks:
            await self.admin.GetTask(ObjectGetRequest(id=entities.identifier(ResourceType.TASK, name)))

    async def _phase(self, execution: WorkflowExecutionIdentifier) -> WorkflowExecution.Phase:
        found: Execution = await self.admin.GetExecution(WorkflowExecutionGetRequest(id=execution))
        return found.closure.phase


@pytest.fixture(scope="module")
async def client(small: Sandbox) -> AsyncIterator[Client]:
    async with small.channel() as channel:
        admin = AdminServiceStub(channel)
        yield Client(admin, await launched.register(admin))


async def refused(write: Callable[[], Awaitable[None]]) -> grpc.StatusCode:
    """Write until that is refused; answers with which code."""
    async with asyncio.timeout(FULL_SECONDS):
        while True:
            try:
                await write()
            except grpc.aio.AioRpcError as error:
                return error.code()


async def works(client: Client) -> bool:
    """Whether a write of every kind is taken; UNAVAILABLE is the only other answer."""
    try:
        for write in client.writes:
            await write()
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


async def check_back(client: Client, sandbox: Sandbox) -> None:
    """Check that all is well within the time, and that it holds what was acknowledged."""
    async with asyncio.timeout(BACK_SECONDS):
        while not await works(client):  # noqa: ASYNC110  # neither does a disk
            await asyncio.sleep(LOOK_SECONDS)
        while (await asyncio.to_thread(sandbox.run, "status")).returncode:
            pass
    await client.check_nothing_is_lost()


def switch_segment(sandbox: Sandbox) -> None:
    """Have PostgreSQL begin a new file of its log, as any load does after 16 MB."""
    layout = Layout(sandbox.folder)
    password = layout.secrets().superuser_password
    url = f"host={layout.postgres_socket} user={postgres.SUPERUSER} password={password} dbname=postgres"
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        for _ in range(40):
            connection.execute("SELECT pg_logical_emit_message(false, 'test', 'a'), pg_switch_wal()")


@dataclass(frozen=True)
class Way:
    """Disks that are full, the writes that are refused then, and what `status` tells."""

    disks: tuple[str, ...]
    refused: tuple[str, ...]
    told: Mapping[str, str]


# What executions cannot apply is answered OK once it is on file, as long as a corner of the stream's disk takes it.
NOT_EVENTS = ("launch", "register", "found")
WAYS = {
    "log of the database": Way(
        ("postgres",),
        ("launch", "register", "found"),
        {"postgres": "MB are left on the disk", "executions": "not ready: the database"},
    ),
    "stream": Way(("nats",), ("report",), {"nats": "no space left on device", "events": "the stream takes no events"}),
    "objects": Way(("objects",), ("launch",), {"executions": "the object store takes no objects"}),
    "all of it": Way(
        tuple(DISKS), NOT_EVENTS, {"postgres": "MB are left on the disk", "executions": "not ready: the database"}
    ),
}


def says_all(sandbox: Sandbox, told: Mapping[str, str]) -> bool:
    """Return whether `status` fails and says of each of these parts that it is ill, and why."""
    status = sandbox.run("status")
    lines = status.stdout.splitlines()
    return bool(status.returncode) and all(
        any(line.startswith(f"{part}: ") and text in line for line in lines) for part, text in told.items()
    )


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_full_disk_is_unavailable_named_and_over_once_there_is_space(
    way: Way, small: Sandbox, client: Client
) -> None:
    assert await works(client)
    for _ in range(LAUNCHED):
        await client.launch()
    supervisor = small.supervisor
    with full(*(small.folder / folder for folder in way.disks)):
        if "postgres" in way.disks:
            await asyncio.to_thread(switch_segment, small)
        writes = [write for write in client.writes if write.__name__ in way.refused]
        codes = await asyncio.gather(*map(refused, writes))
        assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
        # What a part was asked a moment ago still counts.
        await until(lambda: says_all(small, way.told), FULL_SECONDS)
    await check_back(client, small)
    assert small.supervisor == supervisor
