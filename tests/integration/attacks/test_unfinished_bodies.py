"""Requests that do not end, and bodies that are no gRPC message: no other client is affected."""

import asyncio
import shlex
from collections.abc import AsyncIterator

import grpc
import psutil
import pytest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.errors import Code
from services.kit.http2.frames import DATA, END_STREAM, frame
from tests.support.http2_client import begun
from tests.support.http2_flood import flooding
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

MIB = 1 << 20
BODIES = 150
NEARLY_THE_LARGEST = 4 * MIB - 1
# The bound of all unfinished bodies, and the memory that a process needs to read as much.
MOST_GROWTH = 160 * MIB
SECONDS = 2.0
CREATE = "/flyteidl.service.AdminService/CreateExecution"

LISTENERS = ("gateway", "http2", "grpc")
PATHS = (
    CREATE,
    "/flyteidl.service.AdminService/Nope",
    "/nope.Service/Nope",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/Nope",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
NO_MESSAGES = {
    "no body": None,
    "empty": b"",
    "half a head": bytes(3),
    "cut off": b"\0\0\0\0\5ab",
    "no such message": b"\0\0\0\0\2\xff\xff",
    "far too large": b"\0\xff\xff\xff\xffab",
}
NEVER = {Code.INTERNAL, Code.UNKNOWN}


def address(sandbox: Sandbox, listener: str) -> str:
    """Return the address of a listener."""
    if listener == "gateway":
        return f"127.0.0.1:{sandbox.port}"
    lines = (sandbox.folder / "env" / "executions.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    (address_,) = shlex.split(settings[f"FLYTEPLANE_{listener.upper()}_ADDRESS"])
    return address_


def held(sandbox: Sandbox) -> int:
    """Return the memory of executions, in bytes."""
    size: int = psutil.Process(sandbox.pid("executions")).memory_info().rss
    return size


@pytest.fixture(name="admin")
async def _admin(attacked: Sandbox) -> AsyncIterator[AdminServiceStub]:
    async with attacked.channel() as channel:
        yield AdminServiceStub(channel)


async def others_are_served(admin: AdminServiceStub) -> None:
    """Check that small calls succeed, and large ones too."""
    async with asyncio.timeout(SECONDS):
        await refused(admin.CreateExecution(ExecutionCreateRequest()), grpc.StatusCode.INVALID_ARGUMENT)
        large = ExecutionCreateRequest(project="x" * MIB)
        await refused(admin.CreateExecution(large), grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_unfinished_bodies_take_bounded_memory(attacked: Sandbox, admin: AdminServiceStub, listener: str) -> None:
    before = held(attacked)
    for _ in range(3):
        async with flooding(address(attacked, listener)) as flood:
            responses = await flood.begin(CREATE, range(1, 2 * BODIES, 2), NEARLY_THE_LARGEST)
            codes = {int((each.headers | each.trailers).get("grpc-status", -1)) for each in responses}
            assert codes <= {Code.RESOURCE_EXHAUSTED.value}
            assert held(attacked) - before < MOST_GROWTH
            await others_are_served(admin)
    assert held(attacked) - before < MOST_GROWTH


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("path", PATHS)
async def test_body_that_is_no_message_is_refused_at_once(attacked: Sandbox, listener: str, path: str) -> None:
    headers = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)]
    headers += [("content-type", "application/grpc"), ("te", "trailers")]
    async with flooding(address(attacked, listener)) as client:
        numbers = dict(zip(range(1, 100, 2), NO_MESSAGES.items(), strict=False))
        for number, (_, body) in numbers.items():
            if body is None:
                client.send(begun(number, headers, END_STREAM))
            else:
                client.send(begun(number, headers), frame(DATA, END_STREAM, number, body))
        streams = client.streams
        await until(lambda: all(number in streams and streams[number].ended for number in numbers), SECONDS)
        for number, (name, _) in numbers.items():
            response = streams[number].headers | streams[number].trailers
            assert Code(int(response["grpc-status"])) not in NEVER, name
