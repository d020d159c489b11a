"""Responses and requests respect HTTP/2's windows, and unread bytes are limited."""

from collections.abc import Callable
from typing import Any

import pytest

from services.kit.http2 import connection as http2
from services.kit.http2.connection import MOST_STREAMS
from services.kit.http2.frames import (
    ACK,
    DATA,
    FRAME_SIZE,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    REFUSED_STREAM,
    RST_STREAM,
    UINT32,
    WINDOW_UPDATE,
    frame,
)
from services.kit.http2.headers import STATUS_200, encode
from services.kit.http2.responses import Response
from tests.support.http2_client import begun, request, settings, window
from tests.support.http2_served import CANCEL, LOOPS, greeted, padded
from tests.support.waiting import until


async def test_padding_is_returned_to_the_stream_window() -> None:
    async with greeted() as (client, _):
        client.send(begun(1), frame(DATA, PADDED, 1, padded(b"x", 200)))
        given_back = await client.until_frame(WINDOW_UPDATE)
        assert (given_back.number, given_back.payload) == (1, UINT32.pack(201))


async def test_the_connection_window_is_widened_before_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "_WINDOW_UPDATE_BYTES", 30_000)
    async with greeted() as (client, _):
        client.send(request(1, bytes(40_000)))
        await client.response()
        opened = [UINT32.unpack(response.payload)[0] for response in client.others if response.kind == WINDOW_UPDATE]
        assert opened[1:] == [FRAME_SIZE * 2]


async def test_a_response_respects_its_stream_window() -> None:
    async with greeted({INITIAL_WINDOW_SIZE: 10}) as (client, _):
        client.send(request(1, b"x" * 25))
        exchange = client.streams
        await client.until_frame(DATA)
        client.send(window(1, 5))
        await client.until_frame(DATA)
        client.send(settings({INITIAL_WINDOW_SIZE: 5}), window(1, 4), settings({INITIAL_WINDOW_SIZE: 7}))
        await client.until_frame(DATA)  # 5 less, 4 and 2 more
        assert exchange[1].pieces == [10, 5, 1]
        client.send(window(1, 100))
        response = await client.response()
        assert (response.pieces, response.trailers) == ([10, 5, 1, 9], {"trailer": "all"})


async def test_all_responses_respect_the_connection_window() -> None:
    async with greeted({INITIAL_WINDOW_SIZE: LARGEST_WINDOW}) as (client, server):
        client.send(request(1, bytes(60_000)), request(3, bytes(60_000)), request(5, b"small"))
        await client.response(1)
        client.send(frame(PING, 0, 0, bytes(8)))
        await client.until_frame(PING, ACK)
        assert sum(client.streams[3].pieces) + sum(client.streams[5].pieces) == 65_535 - 60_000
        client.send(window(0, 100_000))
        assert len((await client.response(3)).body) == 60_000
        assert (await client.response(5)).body == b"small"
        assert len(server.requests) == 3


@pytest.mark.parametrize(("size", "pieces"), [(FRAME_SIZE, [16_384, 3_616]), (19_999, [19_999, 1]), (20_000, [20_000])])
async def test_a_frame_is_no_larger_than_the_client_allows(size: int, pieces: list[int]) -> None:
    async with greeted({MAX_FRAME_SIZE: size}) as (client, _):
        client.send(request(1, bytes(20_000)))
        assert (await client.response()).pieces == pieces


async def test_a_blocked_response_is_dropped_at_a_reset() -> None:
    async with greeted({INITIAL_WINDOW_SIZE: 1}) as (client, _):
        client.send(request(1, b"given up"), request(3, b"wanted"))
        await client.until_frame(DATA)
        await client.until_frame(DATA)
        client.send(frame(RST_STREAM, 0, 1, CANCEL), settings({INITIAL_WINDOW_SIZE: 100}))
        assert (await client.response(3)).body == b"wanted"
        assert client.streams[1].body == b"g"


@LOOPS
def test_a_client_that_does_not_read_is_not_read_from(run: Callable[[Any], None]) -> None:
    large, body = 30_000, bytes(2_000)

    async def check() -> None:
        async with greeted() as (client, server):
            server.responses[body] = Response(STATUS_200 + encode([(b"why", b"y" * large)]))
            transport = server.connection._transport
            numbers = range(1, 3_000, 2)
            client.send(*(request(number, body) for number in numbers))
            await until(lambda: not transport.is_reading())
            assert transport.get_write_buffer_size() < (1 << 20) + MOST_STREAMS * (large + 100)
            assert len(server.requests) < len(numbers)
            for number in numbers:
                response = await client.response(number)
                assert response.reset == REFUSED_STREAM or len(response.headers["why"]) == large

    run(check())
