"""A full disk under PostgreSQL, NATS, the object store or all of the sandbox: responses to clients, and recovery.

Each has a small disk of its own, which requires a mount, so only root can run these tests.
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
# Longer than any service takes to refuse a write.
CALL_SECONDS = 14
BACK_SECONDS = 10
APPLIED_SECONDS = 30
# Between two tries, which would otherwise take the processor from the services.
LOOK_SECONDS = 0.05
FULL_SECONDS = 25
# Executions to report on, until the stream has filled its present block.
LAUNCHED = 100
BLOCK = b"\0" * 4096
# Bytes for a page or two at a time, until the existing pages, segments and blocks are used up.
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
    """Run a sandbox on small disks."""
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
    """A client with writes of every kind, and those that were acknowledged."""

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
        """Report RUNNING of the oldest execution that has not reported it yet."""
        execution = self.launched[len(self.running)]
        request = WorkflowExecutionEventRequest()
        request.event.execution_id.CopyFrom(execution)
        request.event.phase = WorkflowExecution.RUNNING
        request.event.occurred_at.GetCurrentTime()
        try:
            await self.admin.CreateWorkflowEvent(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:  # of an earlier try without a response
                raise
        self.running.append(execution)

    async def register(self) -> None:
        self.number += 1
        name = f"full.task{self.number}"
        request = entities.task(name, {}, {})
        request.spec.template.container.args.append(DESCRIPTION)
        await self.admin.CreateTask(request, timeout=CALL_SECONDS)
        self.tasks.append(name)

    async def create_project(self) -> None:
        self.number += 1
        name = f"full-{self.number}"
        project = Project(id=name, name=name, description=DESCRIPTION[:250])
        await self.admin.RegisterProject(ProjectRegisterRequest(project=project), timeout=CALL_SECONDS)
        self.projects.append(name)

    @property
    def writes(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (self.launch, self.report, self.register, self.create_project)

    async def check_nothing_is_lost(self) -> None:
        """Raise TimeoutError unless everything acknowledged is stored and applied within the time."""
        async with asyncio.timeout(APPLIED_SECONDS):
            for execution in self.launched:
                wanted = WorkflowExecution.RUNNING if execution in self.running else WorkflowExecution.UNDEFINED
                while await self._phase(execution) != wanted:  # noqa: ASYNC110  # a phase sends no event
                    await asyncio.sleep(LOOK_SECONDS)
        for name in self.tasks:
            await self.admin.GetTask(ObjectGetRequest(id=entities.identifier(ResourceType.TASK, name)))

    async def _phase(self, execution: WorkflowExecutionIdentifier) -> WorkflowExecution.Phase:
        stored: Execution = await self.admin.GetExecution(WorkflowExecutionGetRequest(id=execution))
        return stored.closure.phase


@pytest.fixture(scope="module")
async def client(small: Sandbox) -> AsyncIterator[Client]:
    async with small.channel() as channel:
        admin = AdminServiceStub(channel)
        yield Client(admin, await launched.register(admin))


async def refused(write: Callable[[], Awaitable[None]]) -> grpc.StatusCode:
    """Write until a write is refused; return the code."""
    async with asyncio.timeout(FULL_SECONDS):
        while True:
            try:
                await write()
            except grpc.aio.AioRpcError as error:
                return error.code()


async def works(client: Client) -> bool:
    """Return whether a write of every kind succeeds; UNAVAILABLE is the only code that may be returned otherwise."""
    try:
        for write in client.writes:
            await write()
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


async def check_back(client: Client, sandbox: Sandbox) -> None:
    """Check that all parts work within the time, and that everything acknowledged is stored."""
    async with asyncio.timeout(BACK_SECONDS):
        while not await works(client):  # noqa: ASYNC110  # a disk sends no event
            await asyncio.sleep(LOOK_SECONDS)
        while (await asyncio.to_thread(sandbox.run, "status")).returncode:
            pass
    await client.check_nothing_is_lost()


def switch_segment(sandbox: Sandbox) -> None:
    """Make PostgreSQL begin a new file of its log, as any load does after 16 MB."""
    layout = Layout(sandbox.folder)
    password = layout.secrets().superuser_password
    url = f"host={layout.postgres_socket} user={postgres.SUPERUSER} password={password} dbname=postgres"
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        for _ in range(40):
            connection.execute("SELECT pg_logical_emit_message(false, 'test', 'a'), pg_switch_wal()")


@dataclass(frozen=True)
class Case:
    """Disks that are full, the writes that are refused then, and the lines of `status`."""

    disks: tuple[str, ...]
    refused: tuple[str, ...]
    status: Mapping[str, str]


# With a full stream nothing is refused: events do not need it while executions applies them. Those that executions
# cannot apply return OK once the stream has stored them, as long as its disk has space.
NOT_EVENTS = ("launch", "register", "create_project")
WHOLE = "all of it"

CASES = {
    "log of the database": Case(
        ("postgres",),
        ("launch", "register", "create_project"),
        {"postgres": "MB are left on the disk", "executions": "not ready: the database"},
    ),
    "stream": Case(("nats",), (), {"nats": "MB are left on the disk"}),
    "objects": Case(("objects",), ("launch",), {"executions": "the object store takes no objects"}),
    WHOLE: Case(
        tuple(DISKS), NOT_EVENTS, {"postgres": "MB are left on the disk", "executions": "not ready: the database"}
    ),
}


def status_reports(sandbox: Sandbox, status: Mapping[str, str]) -> bool:
    """Return whether the command `status` fails and has a line with this text for each of these parts."""
    command = sandbox.run("status")
    lines = command.stdout.splitlines()
    return bool(command.returncode) and all(
        any(line.startswith(f"{part}: ") and text in line for line in lines) for part, text in status.items()
    )


@pytest.mark.parametrize(
    "case",
    # A disk that is full for every part shows all faults at once; that each is named for itself takes as long again.
    [pytest.param(case, id=name, marks=() if name == WHOLE else pytest.mark.long) for name, case in CASES.items()],
)
async def test_full_disk_is_unavailable_and_named_until_there_is_space(
    case: Case, small: Sandbox, client: Client
) -> None:
    assert await works(client)
    for _ in range(LAUNCHED):
        await client.launch()
    supervisor = small.supervisor
    with full(*(small.folder / folder for folder in case.disks)):
        if "postgres" in case.disks:
            await asyncio.to_thread(switch_segment, small)
        if not case.refused:
            assert await works(client)
        writes = [write for write in client.writes if write.__name__ in case.refused]
        codes = await asyncio.gather(*map(refused, writes))
        assert set(codes) == ({grpc.StatusCode.UNAVAILABLE} if case.refused else set())
        # The result of a readiness check a moment ago may still be cached.
        await until(lambda: status_reports(small, case.status), FULL_SECONDS)
    await check_back(client, small)
    assert small.supervisor == supervisor
