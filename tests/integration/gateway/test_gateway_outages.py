"""Services that are away, restart, or are slow, seen through a real Envoy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from flyteidl.admin import (
    event_pb2,
    execution_pb2,
    project_pb2,
)
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from tests.support.echo_services import Failure
from tests.support.gateways import BIN, Gateway, failing

# Concurrent callers: more than a retry budget of Envoy would let wait for a retry.
MANY = 300


async def test_service_that_is_away_is_unavailable_and_back_at_once(gateway: Gateway) -> None:
    request = event_pb2.NodeExecutionEventRequest()
    async with gateway.services["events"].away():
        rpc = asyncio.create_task(gateway.call("CreateNodeEvent", request))
        rest, binary = await asyncio.gather(
            gateway.rest.post("/api/v1/events/nodes"),
            gateway.rest.post("/api/v1/events/nodes", headers=BIN),
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc
        assert (rest.status_code, rest.json()["code"]) == (503, 14)
        assert (binary.status_code, Status.FromString(binary.content).code) == (503, 14)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await gateway.call("CreateNodeEvent", request)
    assert (await gateway.rest.post("/api/v1/events/nodes")).is_success


@contextlib.asynccontextmanager
async def other_server(port: int, sends: bytes) -> AsyncIterator[None]:
    """Run something that is no service on a port: it reads a byte, sends its bytes and closes the connection."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(sends)
        writer.close()

    async with await asyncio.start_server(connection, "127.0.0.1", port):
        yield


@pytest.mark.parametrize(
    "sends",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_server_that_is_no_service_is_unavailable(gateway: Gateway, sends: bytes) -> None:
    service = gateway.services["projects"]
    async with service.away(), other_server(service.port, sends):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.call("RegisterProject", project_pb2.ProjectRegisterRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        reply = await gateway.rest.post("/api/v1/projects")
        assert reply.status_code in {502, 503}
        assert reply.json()["code"] == 14


async def test_calls_wait_for_a_restart(gateway: Gateway) -> None:
    async with gateway.services["projects"].away():
        write = asyncio.create_task(gateway.call("RegisterProject", project_pb2.ProjectRegisterRequest()))
        read = asyncio.create_task(gateway.call("ListProjects", project_pb2.ProjectListRequest()))
        await asyncio.wait([write, read], timeout=0.05)
        assert not write.done()
        assert not read.done()
    await asyncio.gather(write, read)
    assert sorted(call.method for call in gateway.services["projects"].calls) == ["ListProjects", "RegisterProject"]


async def test_hundreds_of_calls_wait_for_a_restart(gateway: Gateway) -> None:
    request = project_pb2.ProjectRegisterRequest()
    async with gateway.services["projects"].away():
        calls = [asyncio.create_task(gateway.call("RegisterProject", request)) for _ in range(MANY)]
        await asyncio.wait(calls, timeout=0.1)
    results = await asyncio.gather(*calls, return_exceptions=True)
    # Pauses are random: a few calls have had all their tries before the service is back.
    assert sum(isinstance(result, Exception) for result in results) < MANY / 20


async def test_one_of_two_servers_away_is_not_noticed(gateway: Gateway) -> None:
    request = execution_pb2.ExecutionCreateRequest()
    for _ in range(4):
        await gateway.call("CreateExecution", request)
    assert gateway.services["executions"].calls
    assert gateway.second_executions.calls
    async with gateway.second_executions.away():
        for _ in range(10):
            await gateway.call("CreateExecution", request)
        async with gateway.services["executions"].away():
            calls = [asyncio.create_task(gateway.call("CreateExecution", request)) for _ in range(10)]
        await asyncio.gather(*calls)  # both were away; one is back, and no call waits for a health check


async def test_read_that_returns_unavailable_is_retried_and_a_write_is_not(gateway: Gateway) -> None:
    results = iter([Failure(14, "later"), Failure(14, "later"), None])

    def fail_twice(_: Message) -> Message:
        if failure := next(results):
            raise failure
        return project_pb2.Projects()

    gateway.services["projects"].handlers["ListProjects"] = fail_twice
    await gateway.call("ListProjects", project_pb2.ProjectListRequest())
    assert len(gateway.services["projects"].calls) == 3
    gateway.services["events"].handlers["CreateNodeEvent"] = failing(Failure(14, "no room"))
    with pytest.raises(grpc.aio.AioRpcError, match="no room"):
        await gateway.call("CreateNodeEvent", event_pb2.NodeExecutionEventRequest())
    assert len(gateway.services["events"].calls) == 1


async def test_deadline_reaches_the_service_and_ends_the_call(gateway: Gateway) -> None:
    async def never(_: Message) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    gateway.services["projects"].handlers["GetProject"] = never
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call("GetProject", project_pb2.ProjectGetRequest(), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < (gateway.newest_call("projects").remaining_seconds or 0) < 1
    reply = await gateway.rest.get("/api/v1/projects/p", headers={"grpc-timeout": "300m"})
    assert (reply.status_code, reply.json()["code"]) == (504, 4)
