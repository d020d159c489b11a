"""How a lean front ends, as a gRPC client sees it; for the rest see test_fronts.py and test_grpc_clients.py."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.kit.rpc.http2_server import Http2Server
from tests.support.refusals import refused
from tests.support.toy_service import COOK, TEXT, ToyService, echo

LIMIT = 1 << 20
CALLS = 50


class Slow:
    """Answers when it may."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, request: Any) -> Any:
        self.begun.release()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await echo(request)


def cook(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(COOK, TEXT.SerializeToString, TEXT.FromString)


async def calls_to(front: Http2Server, slow: Slow, channel: grpc.aio.Channel) -> list[Any]:
    await front.start()
    calls = [asyncio.ensure_future(cook(channel)(TEXT(text=str(number)))) for number in range(CALLS)]
    for _ in calls:
        await slow.begun.acquire()
    return calls


async def test_an_ending_front_finishes_its_calls_and_takes_no_more(tmp_path: Path) -> None:
    slow, address = Slow(), f"unix:{tmp_path}/lean.sock"
    front = Http2Server(ToyService(slow).table, address, LIMIT)
    async with grpc.aio.insecure_channel(address) as channel:
        calls = await calls_to(front, slow, channel)
        stopping = asyncio.create_task(front.stop(60))
        await asyncio.sleep(0)
        await refused(cook(channel)(TEXT(), timeout=5), grpc.StatusCode.UNAVAILABLE)
        assert not stopping.done()
        slow.may_answer.set()
        assert [reply.text for reply in await asyncio.gather(*calls)] == [str(number) for number in range(CALLS)]
        await stopping
    assert slow.cancelled == 0


async def test_calls_that_do_not_end_in_time_are_told(tmp_path: Path) -> None:
    slow, address = Slow(), f"unix:{tmp_path}/lean.sock"
    front = Http2Server(ToyService(slow).table, address, LIMIT)
    async with grpc.aio.insecure_channel(address) as channel:
        calls = await calls_to(front, slow, channel)
        await front.stop(0.05)
        for call in calls:
            await refused(call, grpc.StatusCode.UNAVAILABLE, "the service is ending")
    assert slow.cancelled == CALLS


async def test_a_front_that_was_stopped_can_be_followed_by_another(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lean.sock"
    for text in ("first", "second"):
        front = Http2Server(ToyService(echo).table, address, LIMIT)
        await front.start()
        # Channels to one address share a connection, and a call may begin on one whose end its client has not heard of.
        own_connection = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options=own_connection) as channel:
            assert (await cook(channel)(TEXT(text=text))).text == text
        await front.stop(10)


@pytest.mark.parametrize("seconds", [0, 10])
async def test_a_front_without_callers_stops_at_once(tmp_path: Path, seconds: float) -> None:
    front = Http2Server(ToyService(echo).table, f"unix:{tmp_path}/lean.sock", LIMIT)
    await front.start()
    async with asyncio.timeout(5):
        await front.stop(seconds)
