"""An upgrade is rolled out under load as Deployments roll: no call fails that a client's retry does not hide."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc
import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.event_pb2 import WorkflowExecutionEventRequest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec, WorkflowExecutionGetRequest
from flyteidl.admin.project_pb2 import ProjectGetRequest
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.event.event_pb2 import WorkflowExecutionEvent
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support import entities
from tests.support.helm import render
from tests.support.released import WORKLOADS, Release, running_release

REPLICAS = 2
SLOTS = REPLICAS + 1
CLIENTS = 32
# As flytekit and flytepropeller do at least (clients.md#flytekit-channel-and-retries).
TRIES = 4
RETRY_SECONDS = 0.5
# A share of all calls. With pods that are killed it is several times as large.
MOST_RETRIED = 0.0005


@dataclass
class Load:
    """Clients that call all services in turn, each call after the one before."""

    stubs: Sequence[AdminServiceStub]
    calls: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0

    async def run(self, client: int) -> None:
        """Call until cancelled."""
        admin, number = self.stubs[client % len(self.stubs)], 0
        while True:
            number += 1
            execution = WorkflowExecutionIdentifier(
                project=entities.PROJECT, domain=entities.DOMAIN, name=f"c{client}n{number}"
            )
            task = entities.identifier(ResourceType.TASK, "rolled")
            create = ExecutionCreateRequest(
                project=execution.project,
                domain=execution.domain,
                name=execution.name,
                spec=ExecutionSpec(launch_plan=task),
                inputs=LiteralMap(),
            )
            event = WorkflowExecutionEvent(execution_id=execution, phase=WorkflowExecution.RUNNING)
            event.occurred_at.GetCurrentTime()
            await self._call(admin.CreateExecution, create)
            await self._call(
                admin.CreateWorkflowEvent, WorkflowExecutionEventRequest(request_id=execution.name, event=event)
            )
            await self._call(admin.GetExecution, WorkflowExecutionGetRequest(id=execution))
            await self._call(admin.GetTask, ObjectGetRequest(id=task))
            await self._call(admin.GetProject, ProjectGetRequest(id=entities.PROJECT))

    async def _call(self, method: Callable[..., Awaitable[object]], request: object) -> None:
        self.calls += 1
        began = time.monotonic()
        for tried in range(1, TRIES + 1):
            try:
                await method(request, timeout=15)
                break
            except grpc.aio.AioRpcError as error:
                if tried > 1 and error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    break  # the try before was carried out, and its response lost
                if error.code() is not grpc.StatusCode.UNAVAILABLE or tried == TRIES:
                    self.failed.append(f"{type(request).__name__}: {error.code().name} {error.details()}")
                    break
                self.retried[f"{type(request).__name__}: {error.details()}"] += 1
            await asyncio.sleep(RETRY_SECONDS)
        self.slowest = max(self.slowest, time.monotonic() - began)


@pytest.fixture(scope="module")
async def release() -> AsyncIterator[Release]:
    """Run a release with two pods of each Deployment."""
    async with running_release(render(["trial.yaml"]), replicas=REPLICAS, slots=SLOTS) as running:
        yield running


async def test_upgrade_under_load_fails_no_call(release: Release) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        release.gateway_service() as address,
        grpc.aio.insecure_channel(address, options=options) as channel,
        grpc.aio.insecure_channel(address, options=options) as other,
    ):
        admin = AdminServiceStub(channel)
        await admin.CreateTask(entities.task("rolled", {}, {}), timeout=15, wait_for_ready=True)
        load = Load([admin, AdminServiceStub(other)])
        clients = [asyncio.create_task(load.run(number)) for number in range(CLIENTS)]
        try:
            release.node.upgrade(render(["trial.yaml"], {"logLevel": "warning"}))
            await release.migrate()
            # As Helm applies all objects at once, all Deployments roll at the same time.
            await asyncio.gather(*(release.roll(name, SLOTS) for name in WORKLOADS))
        finally:
            for client in clients:
                client.cancel()
            ended = await asyncio.gather(*clients, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
    assert load.calls > 1000
    assert not load.failed, (load.calls, load.retried, load.failed[:5])
    # Drains hide the end of pods from nearly all calls; the retries of the others are their clients'.
    assert load.retried.total() <= load.calls * MOST_RETRIED, load.retried
