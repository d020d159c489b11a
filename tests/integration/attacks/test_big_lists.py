"""Hundreds of the largest lists on one connection: other clients are served as before, and memory is bounded."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import grpc
import psutil
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest
from flyteidl.admin.execution_pb2 import (
    ExecutionCreateRequest,
    ExecutionMetadata,
    ExecutionSpec,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.project_pb2 import ProjectListRequest
from flyteidl.admin.version_pb2 import GetVersionRequest
from flyteidl.core.identifier_pb2 import ResourceType, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support import entities
from tests.support.entities import PROJECT
from tests.support.refusals import codes
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.long

DOMAIN = "staging"  # of its own: other tests' lists stay short
ROWS = 100
ROW_BYTES = 30_000
LISTS = 200
SECONDS = 2.0
MOST_GROWTH = 200 << 20
UNREAD_SECONDS = 4.0
"""How long a client does not read its responses, which would be several hundred megabytes if all were made."""


@pytest.fixture(name="rows", scope="module")
async def _rows(attacked: Sandbox) -> list[WorkflowExecutionIdentifier]:
    """Make a page of large executions."""
    name = f"big_lists.{uuid4().hex}"
    plan = entities.identifier(ResourceType.LAUNCH_PLAN, name)
    spec = ExecutionSpec(launch_plan=plan, metadata=ExecutionMetadata())
    spec.annotations.values["large"] = "x" * ROW_BYTES
    async with attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        await admin.CreateTask(entities.task(name, {}, {}))
        await admin.CreateWorkflow(entities.workflow(name, {}, {}, [entities.task_node("n0", name)], []))
        await admin.CreateLaunchPlan(entities.launch_plan(name, name))
        request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=spec)
        responses = await asyncio.gather(*(admin.CreateExecution(request) for _ in range(ROWS)))
    return [response.id for response in responses]


@pytest.fixture(name="flooder")
async def _flooder(attacked: Sandbox) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(attacked.target, options=options) as channel:
        yield channel


async def test_other_clients_are_served_during_hundreds_of_large_lists(
    attacked: Sandbox, flooder: grpc.aio.Channel, rows: list[WorkflowExecutionIdentifier]
) -> None:
    list_all = flooder.unary_unary(
        "/flyteidl.service.AdminService/ListExecutions", ResourceListRequest.SerializeToString, bytes
    )
    whole_domain = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    executions = psutil.Process(attacked.pid("executions"))
    before, largest = executions.memory_info().rss, 0
    flood = asyncio.gather(
        *(list_all(ResourceListRequest(id=whole_domain, limit=ROWS), timeout=60) for _ in range(LISTS))
    )

    async def timed(call: Callable[[], Awaitable[object]]) -> float:
        nonlocal largest
        worst = 0.0
        while not flood.done():
            begun = time.monotonic()
            await call()
            worst = max(worst, time.monotonic() - begun)
            largest = max(largest, executions.memory_info().rss)
        return worst

    async with attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        short = ResourceListRequest(id=whole_domain, limit=1)
        worst = await asyncio.gather(
            timed(lambda: admin.GetVersion(GetVersionRequest())),
            timed(lambda: admin.ListProjects(ProjectListRequest(limit=1))),
            timed(lambda: admin.GetExecution(WorkflowExecutionGetRequest(id=rows[0]))),
            timed(lambda: admin.ListExecutions(short)),
        )
    assert all(len(response) > ROWS * ROW_BYTES for response in await flood)
    assert max(worst) < SECONDS
    assert largest - before < MOST_GROWTH


async def test_lists_that_are_not_read_take_bounded_memory(
    attacked: Sandbox, flooder: grpc.aio.Channel, rows: list[WorkflowExecutionIdentifier]
) -> None:
    list_all = flooder.unary_stream(
        "/flyteidl.service.AdminService/ListExecutions", ResourceListRequest.SerializeToString, bytes
    )
    whole_domain = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    executions = psutil.Process(attacked.pid("executions"))
    before = executions.memory_info().rss
    calls = [list_all(ResourceListRequest(id=whole_domain, limit=ROWS), timeout=UNREAD_SECONDS) for _ in range(LISTS)]
    await asyncio.wait([asyncio.ensure_future(call.code()) for call in calls])
    assert executions.memory_info().rss - before < MOST_GROWTH
    assert set(await codes([call.read() for call in calls])) <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    async with attacked.channel() as channel, asyncio.timeout(SECONDS):
        assert (await AdminServiceStub(channel).GetExecution(WorkflowExecutionGetRequest(id=rows[0]))).id == rows[0]
