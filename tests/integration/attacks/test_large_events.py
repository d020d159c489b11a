"""Large events, one after the other: they neither fill the memory nor delay other events."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import psutil
import pytest
from flyteidl.admin.task_execution_pb2 import TaskExecutionGetRequest
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.core.identifier_pb2 import ResourceType, TaskExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.executions.rules.events.verdicts import MOST_STORED_PARTS
from tests.integration.attacks.running import events, running
from tests.support.entities import identifier
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("plan")  # which is launched

LARGE = "x" * 3_800_000
EVENTS = 60  # a quarter of a gigabyte
SECONDS = 2.0
MOST_GROWTH = 150 << 20

Make = Callable[[WorkflowExecutionIdentifier, int], tuple[str, Any]]


def _changed(name: WorkflowExecutionIdentifier, method: str, number: int) -> tuple[str, Any]:
    request: Any = events(name)[method]
    request.event.occurred_at.seconds += number
    return method, request


def _new_node(name: WorkflowExecutionIdentifier, number: int) -> tuple[str, Any]:
    method, request = _changed(name, "CreateNodeEvent", number)
    request.event.id.node_id, request.event.deck_uri = f"large{number}", LARGE
    return method, request


def _repeated(name: WorkflowExecutionIdentifier, number: int) -> tuple[str, Any]:
    method, request = _changed(name, "CreateNodeEvent", number)
    request.event.deck_uri = LARGE
    return method, request


def _next_version(name: WorkflowExecutionIdentifier, number: int) -> tuple[str, Any]:
    method, request = _changed(name, "CreateTaskEvent", number)
    request.event.phase_version = number + 1
    return method, request


def _reason(name: WorkflowExecutionIdentifier, number: int) -> tuple[str, Any]:
    method, request = _next_version(name, number)
    request.event.reasons.add(reason=f"{number}{LARGE[: len(LARGE) // 4]}", occurred_at=request.event.occurred_at)
    return method, request


def _log(name: WorkflowExecutionIdentifier, number: int) -> tuple[str, Any]:
    method, request = _next_version(name, number)
    request.event.logs.add(uri=f"{number}{LARGE}", name=str(number))
    return method, request


def _parts(name: WorkflowExecutionIdentifier, number: int) -> tuple[str, Any]:
    """Return an event with nearly as many parts as an attempt may have, which the next ones keep."""
    method, request = _next_version(name, number)
    if number == 0:
        for _ in range(MOST_STORED_PARTS - 100):
            request.event.log_context.pods.add()
    return method, request


def _too_many_parts(name: WorkflowExecutionIdentifier, number: int) -> tuple[str, Any]:
    method, request = _next_version(name, number)
    request.event.logs.extend([TaskLog()] * 200_000)
    return method, request


def _custom_info(name: WorkflowExecutionIdentifier, number: int) -> tuple[str, Any]:
    method, request = _next_version(name, number)
    request.event.custom_info[str(number)] = LARGE
    return method, request


@pytest.fixture(name="admin")
async def _admin(attacked: Sandbox) -> AsyncIterator[AdminServiceStub]:
    async with grpc.aio.insecure_channel(attacked.target) as channel:  # which receives 4 MiB
        yield AdminServiceStub(channel)


@pytest.mark.parametrize("make", [_new_node, _repeated, _reason, _log, _custom_info, _parts, _too_many_parts])
async def test_large_events_take_no_memory_and_delay_no_other_client(
    attacked: Sandbox, admin: AdminServiceStub, make: Make
) -> None:
    name, other = await running(admin), await running(admin)
    executions = psutil.Process(attacked.pid("executions"))
    before, largest, worst = executions.memory_info().rss, 0, 0.0
    for number in range(EVENTS):
        method, request = make(name, number)
        try:
            await getattr(admin, method)(request)
        except grpc.aio.AioRpcError as error:
            assert error.code() in {grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.RESOURCE_EXHAUSTED}  # noqa: PT017
        begun = time.monotonic()
        await admin.CreateTaskEvent(_next_version(other, number)[1])
        worst = max(worst, time.monotonic() - begun)
        largest = max(largest, executions.memory_info().rss)
    assert worst < SECONDS
    assert largest - before < MOST_GROWTH
    node = events(name)["CreateNodeEvent"].event.id  # type: ignore[attr-defined]  # it is a request of events
    task = TaskExecutionIdentifier(task_id=identifier(ResourceType.TASK, "stack.double"), node_execution_id=node)
    assert (await admin.GetTaskExecution(TaskExecutionGetRequest(id=task))).id == task
    await admin.CreateTaskEvent(events(name, "SUCCEEDED")["CreateTaskEvent"])


async def test_external_resources_in_a_response_are_bounded(attacked: Sandbox, admin: AdminServiceStub) -> None:
    name = await running(admin)
    for number in range(12):
        method, request = _next_version(name, number)
        for index in range(40):
            request.event.metadata.external_resources.add(index=40 * number + index, external_id=LARGE[:70_000])
        await getattr(admin, method)(request)
    task = TaskExecutionIdentifier(
        task_id=request.event.task_id, node_execution_id=request.event.parent_node_execution_id
    )
    async with attacked.channel() as channel:  # which receives 20 MiB, as flytekit does
        attempt = await AdminServiceStub(channel).GetTaskExecution(TaskExecutionGetRequest(id=task))
    shown = [resource.index for resource in attempt.closure.metadata.external_resources]
    assert shown == list(range(len(shown)))
    assert 200 < len(shown) < 480
