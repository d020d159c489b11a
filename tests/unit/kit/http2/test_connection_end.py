"""A connection that ends by itself: what has begun is answered, and nothing else begins."""

import asyncio

import pytest

from services.kit.http2.frames import (
    DATA,
    END_STREAM,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    NUMBER,
    REFUSED_STREAM,
    RST_STREAM,
    frame,
)
from tests.support.http2_client import begun, request, window
from tests.support.http2_served import CANCEL, greeted
from tests.support.waiting import until


async def test_an_end_lets_what_has_begun_be_answered_and_nothing_else_begin() -> None:
    async with greeted(waits=True) as (client, served):
        client.send(request(1, b"begun"), begun(3))
        await until(lambda: len(served.asked) == 1)
        ended = served.connection.end()
        farewell = await client.until_frame(GOAWAY)
        assert farewell.payload == NUMBER.pack(3) + NUMBER.pack(NO_ERROR)
        client.send(request(5, b"too late"), frame(RST_STREAM, 0, 5, CANCEL))
        served.may_answer.set()
        assert (await client.answer(1)).body == b"begun"
        assert not ended.done()
        client.send(frame(DATA, END_STREAM, 3, b"half"))
        assert (await client.answer(3)).body == b"half"
        await ended
        assert [body for _, body in served.asked] == [b"begun", b"half"]


async def test_an_end_waits_for_answers_that_wait_for_a_window() -> None:
    async with greeted({INITIAL_WINDOW_SIZE: 2}) as (client, served):
        client.send(request(1, b"long"))
        await client.until_frame(DATA)
        ended = served.connection.end()
        await client.until_frame(GOAWAY)
        assert not ended.done()
        client.send(window(1, 2))
        assert (await client.answer()).body == b"long"
        await ended


@pytest.mark.parametrize("leave", [frame(RST_STREAM, 0, 1, CANCEL), b""])
async def test_an_end_waits_for_nobody_who_has_gone(leave: bytes) -> None:
    async with greeted(waits=True) as (client, served):
        client.send(request(1))
        await until(lambda: len(served.asked) == 1)
        ended = served.connection.end()
        client.send(leave)
        if not leave:
            client.writer.close()
        await ended


async def test_closing_answers_what_is_under_way_and_refuses_what_has_not_come() -> None:
    async with greeted(waits=True) as (client, served):
        client.send(request(1, b"begun"), begun(3))
        await until(lambda: len(served.asked) == 1)
        served.connection.end()
        closing = asyncio.create_task(served.connection.close())
        assert (await client.answer(1)).body == b"begun"
        assert (await client.answer(3)).reset == REFUSED_STREAM
        assert await client.rest() == b""
        await closing
        assert served.cancelled == 1
