"""Limits of requests that do not arrive, of silent connections and of unread responses."""

import asyncio

from services.kit.http2.connection import IncompleteRequests
from services.kit.http2.frames import (
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    PREFACE,
    RST_STREAM,
    UINT32,
    frame,
)
from services.kit.http2.headers import STATUS_200
from services.kit.http2.responses import Response
from services.kit.rpc.fairness import TOTAL_TIME_FACTOR, UNREAD_RESPONSES, FairBudget
from tests.support.http2_client import PATH, Client, begun, block, request, settings, window
from tests.support.http2_served import CANCEL, LOOPS, TOO_MUCH, TOO_SLOW, TRAILERS, connected, greeted
from tests.support.waiting import until

PIECE = 10_000
SHORT = 0.2
TOTAL = 8 * PIECE


def incomplete(*, seconds: float = 60.0) -> IncompleteRequests:
    return IncompleteRequests(FairBudget(TOTAL), seconds, TOO_MUCH, TOO_SLOW)


def of(connection: str) -> tuple[tuple[str, str], ...]:
    return (*PATH, ("x-flyteplane-connection", connection))


def data_frame(number: int, flags: int = 0) -> bytes:
    return frame(DATA, flags, number, bytes(PIECE))


async def refusal(client: Client, number: int) -> str:
    return (await client.response(number)).headers["refused"]


async def test_one_client_connection_may_hold_half_of_the_budget_and_another_part_of_the_rest() -> None:
    async with greeted(incomplete=incomplete()) as (client, server):
        for number in (1, 3, 5, 7, 9):
            client.send(begun(number, of("1")), data_frame(number))
        assert await refusal(client, 9) == "too much"
        client.send(begun(11, of("2")), data_frame(11), data_frame(11, END_STREAM))
        assert len((await client.response(11)).body) == 2 * PIECE
        client.send(request(13, b"small", of("1")))
        assert (await client.response(13)).body == b"small"
        assert len(server.requests) == 2


async def test_long_headers_count_as_bytes_of_the_body() -> None:
    async with greeted(incomplete=incomplete()) as (client, server):
        long = (*of("1"), ("filler", "x" * PIECE))
        for number in (1, 3, 5, 7, 9, 11):
            client.send(begun(number, long))
        assert await refusal(client, 11) == "too much"
        client.send(request(13, b"whole", of("1")))
        assert (await client.response(13)).body == b"whole"
        assert len(server.requests) == 1


async def test_budget_is_released_after_response_reset_and_disconnect() -> None:
    limits = incomplete()
    for _ in range(3):
        async with greeted(incomplete=limits) as (client, _served):
            for number in (1, 3, 5):
                client.send(begun(number), data_frame(number))
            client.send(data_frame(1, END_STREAM), frame(RST_STREAM, 0, 3, CANCEL))
            await client.response(1)
            for number in (7, 9, 11):
                client.send(begun(number), data_frame(number))
            client.send(begun(13), data_frame(13))
            assert await refusal(client, 13) == "too much"
    assert limits.budget.acquire("all", TOTAL // 2)


async def test_a_request_that_rests_is_refused_and_one_that_moves_only_after_the_total_time() -> None:
    async with greeted(incomplete=incomplete(seconds=SHORT)) as (client, server):
        client.send(begun(1), data_frame(1), begun(3), begun(5))

        async def move() -> None:
            while True:
                client.send(frame(DATA, 0, 5, b"x"))
                await asyncio.sleep(SHORT / 10)

        moving = asyncio.create_task(move())
        assert await refusal(client, 1) == "too slow"
        assert await refusal(client, 3) == "too slow"
        assert not client.streams.get(5) or not client.streams[5].ended
        async with asyncio.timeout(2 * TOTAL_TIME_FACTOR * SHORT):
            assert await refusal(client, 5) == "too slow"
        moving.cancel()
        client.send(request(7, b"next"))
        assert (await client.response(7)).body == b"next"
        assert len(server.requests) == 1


async def test_a_complete_request_has_no_time_limit() -> None:
    async with greeted(waits=True, incomplete=incomplete(seconds=SHORT / 4)) as (client, server):
        client.send(request(1, b"patience"))
        asyncio.get_running_loop().call_later(SHORT, server.may_respond.set)
        assert (await client.response(1)).body == b"patience"


async def test_a_connection_without_a_complete_frame_is_closed() -> None:
    half = frame(HEADERS, 0, 1, block(PATH))
    for data in (b"", PREFACE[:10], PREFACE + settings() + half[:-1], PREFACE + settings() + half):
        async with connected(incomplete=incomplete(seconds=SHORT)) as (client, _):
            client.send(data)
            go_away = await client.until_frame(GOAWAY)
            assert go_away.payload[4:] == UINT32.pack(ENHANCE_YOUR_CALM)
            assert await client.rest() == b""


async def test_a_connection_without_calls_stays_open() -> None:
    async with greeted(incomplete=incomplete(seconds=SHORT / 10)) as (client, _):
        for number in (1, 3):
            client.send(request(number, b"here"))
            assert (await client.response(number)).body == b"here"
            await asyncio.sleep(SHORT)


@LOOPS
def test_short_responses_overtake_unread_long_ones(run: object) -> None:
    async def check() -> None:
        long = 1 << 20
        async with greeted({INITIAL_WINDOW_SIZE: LARGEST_WINDOW}, incomplete=incomplete()) as (client, server):
            client.send(window(0, LARGEST_WINDOW - (1 << 16)))
            server.responses[b"long"] = Response(STATUS_200, bytes(long), TRAILERS)
            client.send(*(request(number, b"long", of("reads nothing")) for number in range(1, 41, 2)))
            await until(lambda: len(server.requests) == 20)
            assert UNREAD_RESPONSES.exceeded("reads nothing")
            client.send(request(41, b"short", of("reads")))
            assert (await client.response(41)).body == b"short"
            response = sum(len(exchange.body) for exchange in client.streams.values())
            assert response < 10 * long
            for number in range(1, 41, 2):
                assert len((await client.response(number)).body) == long
            assert not UNREAD_RESPONSES.exceeded("reads nothing")

    run(check())  # type: ignore[operator]  # a loop's
