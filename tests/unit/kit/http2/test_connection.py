"""One connection of HTTP/2 over a real socket: what is taken for a request, and how it is answered and given up."""

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
    NUMBER,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    REFUSED_STREAM,
    RST_STREAM,
    frame,
)
from services.kit.http2.headers import STATUS_200, encode
from services.kit.http2.responses import Response
from tests.support.http2_client import PATH, begun, block, request, settings, window
from tests.support.http2_served import CANCEL, LOOPS, MOST, SAYS, connected, greeted, padded
from tests.support.waiting import until

BLOCK = block(PATH)

ALL_SORTS = (
    begun(1),
    frame(DATA, PADDED, 1, padded(b"fi", 20)),
    frame(0xF0, 0xFF, 1, b"what nobody knows"),
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
def test_frames_may_be_cut_anywhere(run: Callable[[Any], None], cuts: list[int]) -> None:
    async def cut() -> None:
        async with connected() as (client, served):
            said = PREFACE + settings() + b"".join(ALL_SORTS)
            served.answers[b""] = Response(STATUS_200 + SAYS)
            edges = [0, *sorted(cuts), len(said)]
            for begin, end in pairwise(edges):
                served.connection.data_received(said[begin:end])
            for number, body, trailers in (
                (1, b"first", {"says": "all"}),
                (3, b"second", {"says": "all"}),
                (5, b"", {}),
            ):
                got = await client.answer(number)
                assert (got.body, got.trailers, got.reset) == (body, trailers, None)
            assert [frame.payload for frame in client.others if frame.kind == PING] == [b"are you?"]
            assert served.asked == [(dict(PATH), body) for body in (b"first", b"second", b"")]

    run(cut())


async def test_what_comes_late_for_an_answered_request_is_passed_over() -> None:
    async with greeted() as (client, served):
        served.answers[bytes(FRAME_SIZE * 7)] = Response(STATUS_200 + SAYS)
        client.send(begun(1), frame(DATA, 0, 1, bytes(FRAME_SIZE)) * 7)
        got = await client.answer()
        assert (got.ended, len(served.asked[0][1])) == (True, FRAME_SIZE * 7)
        assert (await client.until_frame(RST_STREAM)).payload == NUMBER.pack(NO_ERROR)
        late = [frame(DATA, 0, 1, b"x"), window(1, 5), frame(RST_STREAM, 0, 1, CANCEL), begun(1, flags=END_STREAM)]
        client.send(*late, request(3, b"next"))
        assert (await client.answer(3)).body == b"next"
        assert len(served.asked) == 2


async def test_a_body_too_large_is_told_by_its_beginning_and_the_rest_not_kept() -> None:
    async with greeted(waits=True) as (client, served):
        served.answers[bytes(FRAME_SIZE * 7)] = Response(STATUS_200 + SAYS)
        client.send(begun(1), frame(DATA, 0, 1, bytes(FRAME_SIZE)) * 7)
        await until(lambda: len(served.asked) == 1)
        client.send(frame(DATA, 0, 1, bytes(FRAME_SIZE)) * 100, frame(DATA, END_STREAM, 1), frame(PING, 0, 0, bytes(8)))
        await client.until_frame(PING, ACK)
        assert MOST < len(served.asked[0][1]) <= MOST + FRAME_SIZE
        served.may_answer.set()
        got = await client.answer()
        assert (got.ended, got.reset, len(served.asked)) == (True, None, 1)


async def test_large_headers_are_continued() -> None:
    async with greeted() as (client, served):
        served.answers[b"x"] = Response(STATUS_200 + encode([(b"why", b"y" * 50_000)]))
        client.send(request(1))
        assert (await client.answer()).headers["why"] == "y" * 50_000
        client.send(request(3, b"next"))
        assert (await client.answer(3)).body == b"next"


async def test_a_request_given_up_is_cancelled_and_not_answered() -> None:
    async with greeted(waits=True) as (client, served):
        client.send(request(1), begun(3))
        await until(lambda: len(served.asked) == 1)
        client.send(frame(RST_STREAM, 0, 1, CANCEL), frame(RST_STREAM, 0, 3, CANCEL))
        await until(lambda: served.cancelled == 1)
        served.may_answer.set()
        client.send(request(5, b"next"))
        assert (await client.answer(5)).body == b"next"
        assert client.streams.keys() == {5}


async def test_a_request_given_up_at_once_is_never_begun() -> None:
    async with greeted() as (client, served):
        served.connection.data_received(request(1) + frame(RST_STREAM, 0, 1, CANCEL))
        client.send(request(3, b"next"))
        assert (await client.answer(3)).body == b"next"
        assert [body for _, body in served.asked] == [b"next"]


async def test_more_streams_than_there_may_be_are_refused() -> None:
    async with greeted(waits=True) as (client, served):
        numbers = range(1, 2 * MOST_STREAMS + 6, 2)
        client.send(*(request(number, b"%d" % number) for number in numbers))
        for number in numbers[MOST_STREAMS:]:
            assert (await client.answer(number)).reset == REFUSED_STREAM
        served.may_answer.set()
        for number in numbers[:MOST_STREAMS]:
            assert (await client.answer(number)).body == b"%d" % number
        client.send(request(9999, b"next"))
        assert (await client.answer(9999)).body == b"next"
        assert len(served.asked) == MOST_STREAMS + 1


async def test_a_client_that_wants_to_remember_less_hears_that_nothing_is_remembered() -> None:
    async with greeted({HEADER_TABLE_SIZE: 0}) as (client, _):
        client._decoder.max_allowed_table_size = 0
        client.send(request(1), request(3))
        assert (await client.answer(1)).body == (await client.answer(3)).body == b"x"
        assert client._decoder.header_table_size == 0
