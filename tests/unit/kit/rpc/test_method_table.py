"""The method table parses large requests in the CPU pool."""

import asyncio

import pytest
from flyteidl.admin.task_pb2 import TaskCreateRequest
from flyteidl.service import admin_pb2
from google.protobuf.message import Message

from services.kit.errors import InvalidArgument
from services.kit.rpc.cpu_pool import THREADS
from services.kit.rpc.table import Call, Table

ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
REQUESTS = 20


class _Tasks:
    async def CreateTask(self, _request: Message, _call: Call) -> bytes:
        return b""


async def test_many_concurrent_large_requests_leave_turns_to_the_loop() -> None:
    """Each takes long to parse; parsed one after the other on the loop, they would block all other calls."""
    table = Table()
    table.bind(ADMIN_SERVICE, _Tasks())
    request = TaskCreateRequest()
    request.spec.template.custom.update({f"field {number}": number for number in range(2000)})
    broken = request.SerializeToString()[:-1]
    turns = 0

    async def call() -> None:
        with pytest.raises(InvalidArgument, match="cannot be parsed"):
            await table.serve("/flyteidl.service.AdminService/CreateTask", broken, Call())

    calls = [asyncio.create_task(call()) for _ in range(REQUESTS)]
    while not all(call.done() for call in calls):
        await asyncio.sleep(0)
        turns += 1
    await asyncio.gather(*calls)
    assert turns >= REQUESTS // THREADS
