"""Large and compressed requests: their memory is bounded before they are parsed, and others have their turns."""

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import pytest
from flyteidl.admin.task_pb2 import TaskCreateRequest
from flyteidl.service import admin_pb2
from google.protobuf.message import Message

from services.kit.errors import InvalidArgument, ResourceExhausted
from services.kit.protobuf.wire import message_field
from services.kit.rpc.fairness import CONNECTION_HEADER
from services.kit.rpc.framing import CompressedMessage
from services.kit.rpc.large_requests import MOST_PARTS
from services.kit.rpc.table import Call, Table
from tests.support.waiting import until

ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
PATH = "/flyteidl.service.AdminService/CreateTask"
MOST_BYTES = 4 * 1024 * 1024
SECONDS = 10.0
SPEC, TEMPLATE, CONTAINER, ARGUMENT = 2, 1, 6, b"\x1a\x00"


class Tasks:
    """Keeps requests until `may_respond`."""

    def __init__(self) -> None:
        self.may_respond = asyncio.Event()
        self.requests: list[Any] = []

    async def CreateTask(self, request: Message, _call: Call) -> bytes:
        self.requests.append(request)
        await self.may_respond.wait()
        return b""


def table(tasks: Tasks) -> Table:
    made = Table()
    made.bind(ADMIN_SERVICE, tasks)
    return made


def arguments(number: int) -> bytes:
    """Return a request with as many parts that are as small as they can be."""
    return message_field(SPEC, message_field(TEMPLATE, message_field(CONTAINER, ARGUMENT * number)))


def compressed(message: bytes) -> CompressedMessage:
    return CompressedMessage(gzip.compress(message), "gzip", MOST_BYTES)


def call(connection: str = "a") -> Call:
    return Call(metadata={CONNECTION_HEADER: connection})


@pytest.mark.parametrize("form", [bytes, compressed])
async def test_request_of_too_many_parts_is_refused(form: Callable[[bytes], bytes | CompressedMessage]) -> None:
    tasks = Tasks()
    with pytest.raises(ResourceExhausted, match="message larger than max"):
        await table(tasks).serve(PATH, form(arguments(MOST_PARTS)), call())
    assert not tasks.requests


@pytest.mark.parametrize("number", [0, 1, 1000, 20_000, 40_000, MOST_PARTS - 3])
@pytest.mark.parametrize("form", [bytes, compressed])
async def test_request_of_allowed_parts_is_read(
    form: Callable[[bytes], bytes | CompressedMessage], number: int
) -> None:
    tasks = Tasks()
    tasks.may_respond.set()
    await table(tasks).serve(PATH, form(arguments(number)), call())
    (request,) = tasks.requests
    assert request == TaskCreateRequest.FromString(arguments(number))


async def test_malformed_request_that_was_compressed_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="cannot be parsed"):
        await table(Tasks()).serve(PATH, compressed(arguments(50_000)[:-1]), call())


async def test_largest_requests_wait_for_the_reply_of_others_of_their_connection() -> None:
    tasks = Tasks()
    served = table(tasks)
    large = arguments(MOST_PARTS - 3)
    calls = [asyncio.create_task(served.serve(PATH, large, call())) for _ in range(3)]
    await until(lambda: bool(tasks.requests), SECONDS)
    medium = asyncio.create_task(served.serve(PATH, arguments(2000), call("b")))
    await until(lambda: len(tasks.requests) > 1, SECONDS)
    assert len(tasks.requests[1].spec.template.container.args) == 2000
    tasks.may_respond.set()
    await asyncio.gather(medium, *calls)
    assert len(tasks.requests) == 4


async def test_a_cancelled_request_frees_its_memory() -> None:
    tasks = Tasks()
    served = table(tasks)
    for _ in range(3):
        cancelled = asyncio.create_task(served.serve(PATH, arguments(MOST_PARTS - 3), call()))
        await until(lambda: bool(tasks.requests), SECONDS)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        tasks.requests.clear()


async def test_medium_requests_leave_turns_to_the_loop() -> None:
    tasks = Tasks()
    served = table(tasks)
    calls = [asyncio.create_task(served.serve(PATH, arguments(2000), call())) for _ in range(20)]
    most_at_once = 0
    while len(tasks.requests) < len(calls):
        before = len(tasks.requests)
        await asyncio.sleep(0)
        most_at_once = max(most_at_once, len(tasks.requests) - before)
    assert most_at_once == 1
    tasks.may_respond.set()
    await asyncio.gather(*calls)
