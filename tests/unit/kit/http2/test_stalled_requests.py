"""Requests that do not arrive, connections that say nothing, answers that nobody reads: each is bounded."""

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
    NUMBER,
    PREFACE,
    RST_STREAM,
    frame,
)
from services.kit.http2.headers import STATUS_200
from services.kit.http2.responses import Response
from services.kit.rpc.fairness import TOTAL_TIME_FACTOR, UNREAD_RESPONSES, FairBudget
from tests.support.http2_client import PATH, Client, begun, block, request, settings, window
from tests.support.http2_served import CANCEL, LOOPS, SAYS, TOO_MUCH, TOO_SLOW, connected, greeted
from tests.support.waiting import until

PIECE = 10_000
SHORT = 0.2
TOTAL = 8 * PIECE


def incomplete(*, seconds: float = 60.0) -> IncompleteRequests:
    return IncompleteRequests(FairBudget(TOTAL), seconds, TOO_MUCH, TOO_SLOW)


def of(connection: str) -> tuple[tuple[str, str], ...]:
    return (*PATH, ("x-flyteplane-connection", connection))


def piece(number: int, flags: int = 0) -> bytes:
    return frame(DATA, flags, number, bytes(PIECE))


async def why(client: Client, number: int) -> str:
    return (await client.answer(number)).headers["refused"]


async def test_a_client_holds_half_of_what_there_is_and_another_a_part_of_the_rest() -> None:
    async with greeted(incomplete=incomplete()) as (client, served):
        for number in (1, 3, 5, 7, 9):
            client.send(begun(number, of("1")), piece(number))
        assert await why(client, 9) == "too much"
        client.send(begun(11, of("2")), piece(11), piece(11, END_STREAM))
        assert len((await client.answer(11)).body) == 2 * PIECE
        client.send(request(13, b"small", of("1")))
        assert (await client.answer(13)).body == b"small"
        assert len(served.asked) == 2


async def test_long_headers_count_as_bodies_do() -> None:
    async with greeted(incomplete=incomplete()) as (client, served):
        long = (*of("1"), ("filler", "x" * PIECE))
        for number in (1, 3, 5, 7, 9, 11):
            client.send(begun(number, long))
        assert await why(client, 11) == "too much"
        client.send(request(13, b"whole", of("1")))
        assert (await client.answer(13)).body == b"whole"
        assert len(served.asked) == 1


async def test_what_was_held_is_free_when_a_request_is_answered_given_up_or_gone() -> None:
    allowed = incomplete()
    for _ in range(3):
        async with greeted(incomplete=allowed) as (client, _served):
            for number in (1, 3, 5):
                client.send(begun(number), piece(number))
            client.send(piece(1, END_STREAM), frame(RST_STREAM, 0, 3, CANCEL))
            await client.answer(1)
            for number in (7, 9, 11):
                client.send(begun(number), piece(number))
            client.send(begun(13), piece(13))
            assert await why(client, 13) == "too much"
    assert allowed.budget.acquire("all", TOTAL // 2)


async def test_a_request_that_rests_is_refused_and_one_that_moves_is_not() -> None:
    async with greeted(incomplete=incomplete(seconds=SHORT)) as (client, served):
        client.send(begun(1), piece(1), begun(3), begun(5))

        async def move() -> None:
            while True:
                client.send(frame(DATA, 0, 5, b"x"))
                await asyncio.sleep(SHORT / 10)

        moving = asyncio.create_task(move())
        assert await why(client, 1) == "too slow"
        assert await why(client, 3) == "too slow"
        assert not client.streams.get(5) or not client.streams[5].ended
        async with asyncio.timeout(2 * TOTAL_TIME_FACTOR * SHORT):
            assert await why(client, 5) == "too slow"
        moving.cancel()
        client.send(request(7, b"next"))
        assert (await client.answer(7)).body == b"next"
        assert len(served.asked) == 1


async def test_a_call_may_take_as_long_as_it_wants_once_it_has_arrived() -> None:
    async with greeted(waits=True, incomplete=incomplete(seconds=SHORT / 4)) as (client, served):
        client.send(request(1, b"patience"))
        asyncio.get_running_loop().call_later(SHORT, served.may_answer.set)
        assert (await client.answer(1)).body == b"patience"


async def test_a_connection_that_says_nothing_or_half_of_something_is_closed() -> None:
    half = frame(HEADERS, 0, 1, block(PATH))
    for said in (b"", PREFACE[:10], PREFACE + settings() + half[:-1], PREFACE + settings() + half):
        async with connected(incomplete=incomplete(seconds=SHORT)) as (client, _):
            client.send(said)
            farewell = await client.until_frame(GOAWAY)
            assert farewell.payload[4:] == NUMBER.pack(ENHANCE_YOUR_CALM)
            assert await client.rest() == b""


async def test_a_connection_without_calls_stays() -> None:
    async with greeted(incomplete=incomplete(seconds=SHORT / 10)) as (client, _):
        for number in (1, 3):
            client.send(request(number, b"here"))
            assert (await client.answer(number)).body == b"here"
            await asyncio.sleep(SHORT)


@LOOPS
def test_short_answers_pass_those_that_nobody_reads(run: object) -> None:
    async def check() -> None:
        long = 1 << 20
        async with greeted({INITIAL_WINDOW_SIZE: LARGEST_WINDOW}, incomplete=incomplete()) as (client, served):
            client.send(window(0, LARGEST_WINDOW - (1 << 16)))
            served.answers[b"long"] = Response(STATUS_200, bytes(long), SAYS)
            client.send(*(request(number, b"long", of("reads nothing")) for number in range(1, 41, 2)))
            await until(lambda: len(served.asked) == 20)
            assert UNREAD_RESPONSES.exceeded("reads nothing")
            client.send(request(41, b"short", of("reads")))
            assert (await client.answer(41)).body == b"short"
            got = sum(len(exchange.body) for exchange in client.streams.values())
            assert got < 10 * long
            for number in range(1, 41, 2):
                assert len((await client.answer(number)).body) == long
            assert not UNREAD_RESPONSES.exceeded("reads nothing")

    run(check())  # type: ignore[operator]  # a loop's
