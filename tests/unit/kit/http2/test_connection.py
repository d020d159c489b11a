"""An HTTP/2 connection over a real socket: requests, responses and resets."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.kit.http2.connection import MOST_STREAMS
from services.kit.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    REFUSED_STREAM,
    RST_STREAM,
    UINT32,
    frame,
)
from services.kit.http2.headers import STATUS_200, encode
from services.kit.http2.responses import Response
from tests.support.http2_client import PATH, begun, block, request, settings, window
from tests.support.http2_served import CANCEL, LOOPS, MOST_BODY_BYTES, TRAILERS, connected, greeted, padded
from tests.support.waiting import until

BLOCK = block(PATH)

ALL_SORTS = (
    begun(1),
    frame(DATA, PADDED, 1, padded(b"fi", 20)),
    frame(0xF0, 0xFF, 1, b"an unknown frame"),
    frame(DATA, END_STREAM, 1, b"rst"),
    frame(HEADERS, PADDED | PRIORITIZED, 3, padded(bytes(5) + BLOCK[:3], 7)),
    frame(CONTINUATION, 0, 3, BLOCK[3:5]),
    frame(CONTINUATION, 0, 3),
    frame(CONTINUATION, END_HEADERS, 3, BLOCK[5:]),
    frame(PRIORITY, 0, 9, bytes(5)),
    frame(PING, 0, 0, b"are you?"),
    frame(PING, ACK, 0, b"what for"),
    frame(DATA, 0, 3, b"second"),
    begun(3, flags=END_STREAM),  # trailers
    begun(5, flags=END_STREAM),
    frame(GOAWAY, 0, 0, bytes(8) + b"soon"),
)


@LOOPS
@given(cuts=st.lists(st.integers(0, sum(map(len, ALL_SORTS)) + len(PREFACE))))
def test_frames_may_arrive_in_any_pieces(run: Callable[[Any], None], cuts: list[int]) -> None:
    async def cut() -> None:
        async with connected() as (client, server):
            data = PREFACE + settings() + b"".join(ALL_SORTS)
            server.responses[b""] = Response(STATUS_200 + TRAILERS)
            edges = [0, *sorted(cuts), len(data)]
            for begin, end in pairwise(edges):
                server.connection.data_received(data[begin:end])
            for number, body, trailers in (
                (1, b"first", {"trailer": "all"}),
                (3, b"second", {"trailer": "all"}),
                (5, b"", {}),
            ):
                response = await client.response(number)
                assert (response.body, response.trailers, response.reset) == (body, trailers, None)
            assert [frame.payload for frame in client.others if frame.kind == PING] == [b"are you?"]
            assert server.requests == [(dict(PATH), body) for body in (b"first", b"second", b"")]

    run(cut())


async def test_frames_after_the_response_are_ignored() -> None:
    async with greeted() as (client, server):
        server.responses[bytes(FRAME_SIZE * 7)] = Response(STATUS_200 + TRAILERS)
        client.send(begun(1), frame(DATA, 0, 1, bytes(FRAME_SIZE)) * 7)
        response = await client.response()
        assert (response.ended, len(server.requests[0][1])) == (True, FRAME_SIZE * 7)
        assert (await client.until_frame(RST_STREAM)).payload == UINT32.pack(NO_ERROR)
        late = [frame(DATA, 0, 1, b"x"), window(1, 5), frame(RST_STREAM, 0, 1, CANCEL), begun(1, flags=END_STREAM)]
        client.send(*late, request(3, b"next"))
        assert (await client.response(3)).body == b"next"
        assert len(server.requests) == 2


async def test_a_body_too_large_is_served_by_its_beginning_and_the_rest_dropped() -> None:
    async with greeted(waits=True) as (client, server):
        server.responses[bytes(FRAME_SIZE * 7)] = Response(STATUS_200 + TRAILERS)
        client.send(begun(1), frame(DATA, 0, 1, bytes(FRAME_SIZE)) * 7)
        await until(lambda: len(server.requests) == 1)
        client.send(frame(DATA, 0, 1, bytes(FRAME_SIZE)) * 100, frame(DATA, END_STREAM, 1), frame(PING, 0, 0, bytes(8)))
        await client.until_frame(PING, ACK)
        assert MOST_BODY_BYTES < len(server.requests[0][1]) <= MOST_BODY_BYTES + FRAME_SIZE
        server.may_respond.set()
        response = await client.response()
        assert (response.ended, response.reset, len(server.requests)) == (True, None, 1)


async def test_large_headers_have_continuation_frames() -> None:
    async with greeted() as (client, server):
        server.responses[b"x"] = Response(STATUS_200 + encode([(b"why", b"y" * 50_000)]))
        client.send(request(1))
        assert (await client.response()).headers["why"] == "y" * 50_000
        client.send(request(3, b"next"))
        assert (await client.response(3)).body == b"next"


async def test_a_reset_request_is_cancelled_and_has_no_response() -> None:
    async with greeted(waits=True) as (client, server):
        client.send(request(1), begun(3))
        await until(lambda: len(server.requests) == 1)
        client.send(frame(RST_STREAM, 0, 1, CANCEL), frame(RST_STREAM, 0, 3, CANCEL))
        await until(lambda: server.cancelled == 1)
        server.may_respond.set()
        client.send(request(5, b"next"))
        assert (await client.response(5)).body == b"next"
        assert client.streams.keys() == {5}


async def test_a_request_reset_at_once_is_not_served() -> None:
    async with greeted() as (client, server):
        server.connection.data_received(request(1) + frame(RST_STREAM, 0, 1, CANCEL))
        client.send(request(3, b"next"))
        assert (await client.response(3)).body == b"next"
        assert [body for _, body in server.requests] == [b"next"]


async def test_streams_above_the_limit_are_refused() -> None:
    async with greeted(waits=True) as (client, server):
        numbers = range(1, 2 * MOST_STREAMS + 6, 2)
        client.send(*(request(number, b"%d" % number) for number in numbers))
        for number in numbers[MOST_STREAMS:]:
            assert (await client.response(number)).reset == REFUSED_STREAM
        server.may_respond.set()
        for number in numbers[:MOST_STREAMS]:
            assert (await client.response(number)).body == b"%d" % number
        client.send(request(9999, b"next"))
        assert (await client.response(9999)).body == b"next"
        assert len(server.requests) == MOST_STREAMS + 1


async def test_a_smaller_header_table_is_confirmed_by_a_size_update() -> None:
    async with greeted({HEADER_TABLE_SIZE: 0}) as (client, _):
        client._decoder.max_allowed_table_size = 0
        client.send(request(1), request(3))
        assert (await client.response(1)).body == (await client.response(3)).body == b"x"
        assert client._decoder.header_table_size == 0
