"""The stop of the HTTP/2 server, as a gRPC client sees it; the rest is in test_servers.py and test_grpc_clients.py."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.kit.rpc.http2_server import Http2Server
from tests.support.refusals import refused
from tests.support.toy_service import METHOD_PATH, TEXT, ToyService, echo

LIMIT = 1 << 20
CALLS = 50


class Slow:
    """A handler that waits for `may_respond`."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.may_respond = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, request: Any) -> Any:
        self.begun.release()
        try:
            await self.may_respond.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await echo(request)


def method(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(METHOD_PATH, TEXT.SerializeToString, TEXT.FromString)


async def calls_to(server: Http2Server, slow: Slow, channel: grpc.aio.Channel) -> list[Any]:
    await server.start()
    calls = [asyncio.ensure_future(method(channel)(TEXT(text=str(number)))) for number in range(CALLS)]
    for _ in calls:
        await slow.begun.acquire()
    return calls


async def test_a_stopping_server_finishes_its_calls_and_refuses_new_ones(tmp_path: Path) -> None:
    slow, address = Slow(), f"unix:{tmp_path}/http2.sock"
    server = Http2Server(ToyService(slow).table, address, LIMIT)
    async with grpc.aio.insecure_channel(address) as channel:
        calls = await calls_to(server, slow, channel)
        stopping = asyncio.create_task(server.stop(60))
        await asyncio.sleep(0)
        await refused(method(channel)(TEXT(), timeout=5), grpc.StatusCode.UNAVAILABLE)
        assert not stopping.done()
        slow.may_respond.set()
        assert [reply.text for reply in await asyncio.gather(*calls)] == [str(number) for number in range(CALLS)]
        await stopping
    assert slow.cancelled == 0


async def test_calls_that_outlast_the_stop_are_unavailable(tmp_path: Path) -> None:
    slow, address = Slow(), f"unix:{tmp_path}/http2.sock"
    server = Http2Server(ToyService(slow).table, address, LIMIT)
    async with grpc.aio.insecure_channel(address) as channel:
        calls = await calls_to(server, slow, channel)
        await server.stop(0.05)
        for call in calls:
            await refused(call, grpc.StatusCode.UNAVAILABLE, "the service is ending")
    assert slow.cancelled == CALLS


async def test_a_stopped_server_can_be_replaced_on_its_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/http2.sock"
    for text in ("first", "second"):
        server = Http2Server(ToyService(echo).table, address, LIMIT)
        await server.start()
        # Otherwise channels to one address share a connection, and a call may begin on one that was just closed.
        own_connection = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options=own_connection) as channel:
            assert (await method(channel)(TEXT(text=text))).text == text
        await server.stop(10)


@pytest.mark.parametrize("seconds", [0, 10])
async def test_a_server_without_calls_stops_at_once(tmp_path: Path, seconds: float) -> None:
    server = Http2Server(ToyService(echo).table, f"unix:{tmp_path}/http2.sock", LIMIT)
    await server.start()
    async with asyncio.timeout(5):
        await server.stop(seconds)
