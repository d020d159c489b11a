"""A connection that the server ends: begun requests are completed, later ones refused."""

import asyncio

import pytest

from services.kit.http2.frames import (
    DATA,
    END_STREAM,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    UINT32,
    frame,
)
from tests.support.http2_client import begun, request, window
from tests.support.http2_served import CANCEL, greeted
from tests.support.waiting import until


async def test_end_completes_begun_requests_and_ignores_later_ones() -> None:
    async with greeted(waits=True) as (client, server):
        client.send(request(1, b"begun"), begun(3))
        await until(lambda: len(server.requests) == 1)
        ended = server.connection.drain()
        go_away = await client.until_frame(GOAWAY)
        assert go_away.payload == UINT32.pack(3) + UINT32.pack(NO_ERROR)
        client.send(request(5, b"too late"), frame(RST_STREAM, 0, 5, CANCEL))
        server.may_respond.set()
        assert (await client.response(1)).body == b"begun"
        assert not ended.done()
        client.send(frame(DATA, END_STREAM, 3, b"half"))
        assert (await client.response(3)).body == b"half"
        await ended
        assert [body for _, body in server.requests] == [b"begun", b"half"]


async def test_end_waits_for_blocked_responses() -> None:
    async with greeted({INITIAL_WINDOW_SIZE: 2}) as (client, server):
        client.send(request(1, b"long"))
        await client.until_frame(DATA)
        ended = server.connection.drain()
        await client.until_frame(GOAWAY)
        assert not ended.done()
        client.send(window(1, 2))
        assert (await client.response()).body == b"long"
        await ended


@pytest.mark.parametrize("leave", [frame(RST_STREAM, 0, 1, CANCEL), b""])
async def test_end_does_not_wait_for_cancelled_requests(leave: bytes) -> None:
    async with greeted(waits=True) as (client, server):
        client.send(request(1))
        await until(lambda: len(server.requests) == 1)
        ended = server.connection.drain()
        client.send(leave)
        if not leave:
            client.writer.close()
        await ended


async def test_close_cancels_calls_and_refuses_incomplete_requests() -> None:
    async with greeted(waits=True) as (client, server):
        client.send(request(1, b"begun"), begun(3))
        await until(lambda: len(server.requests) == 1)
        server.connection.drain()
        closing = asyncio.create_task(server.connection.close())
        assert (await client.response(1)).body == b"begun"
        assert (await client.response(3)).reset == REFUSED_STREAM
        assert await client.rest() == b""
        await closing
        assert server.cancelled == 1
