"""What a gRPC client meets at the fronts that speak to it directly: grpcio's server and the lean front, both alike."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.errors import NotFound, ServiceError
from services.kit.rpc.grpcio_server import GrpcioServer
from services.kit.rpc.http2_server import Http2Server
from tests.support.parts import free_port
from tests.support.refusals import detail_of, refused
from tests.support.toy_service import COOK, TEXT, ToyService, echo, failing
from tests.support.waiting import until

LIMIT = 12 << 20
CALLS = 1_000
LARGE = 10 << 20
CODES = {code.value[0]: code for code in grpc.StatusCode}

Make = Callable[[ToyService, str], GrpcioServer | Http2Server]
Cook = Callable[..., Any]

MAKE: dict[str, Make] = {
    "grpc": lambda toy_service, address: GrpcioServer(toy_service.table, (), address, LIMIT),
    "lean": lambda toy_service, address: Http2Server(toy_service.table, address, LIMIT),
}


@pytest.fixture(name="make", params=MAKE.values(), ids=list(MAKE))
def _make(request: pytest.FixtureRequest) -> Make:
    make: Make = request.param
    return make


@asynccontextmanager
async def channel_to(
    make: Make, toy_service: ToyService | Callable[[Any], Awaitable[Any]]
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve a kitchen, or one with such answers; yields a client's channel."""
    address = f"127.0.0.1:{free_port()}"
    front = make(toy_service if isinstance(toy_service, ToyService) else ToyService(toy_service), address)
    await front.start()
    try:
        async with grpc.aio.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
            yield channel
    finally:
        await front.stop(0)


def cook(channel: grpc.aio.Channel, path: str = COOK) -> Cook:
    call: Cook = channel.unary_unary(path, TEXT.SerializeToString, TEXT.FromString)
    return call


async def test_a_call_is_answered(make: Make) -> None:
    async with channel_to(make, echo) as channel:
        for text in ("", "soup", "Übermäßig 🍲"):
            assert (await cook(channel)(TEXT(text=text))).text == text


async def test_stored_bytes_are_an_answer(make: Make) -> None:
    async def stored(_: Any) -> bytes:
        return bytes(TEXT(text="as it was").SerializeToString())

    async with channel_to(make, stored) as channel:
        assert (await cook(channel)(TEXT())).text == "as it was"


@pytest.mark.parametrize("raised", ServiceError.__subclasses__(), ids=lambda raised: raised.__name__)
async def test_a_failure_arrives_with_code_message_and_details(make: Make, raised: type[ServiceError]) -> None:
    detail = BadRequest(field_violations=[BadRequest.FieldViolation(field="x")])
    async with channel_to(make, failing(raised("100 % schlecht: é 🍲\n", detail))) as channel:
        error = await refused(cook(channel)(TEXT()), CODES[raised.code])
        assert error.details() == "100 % schlecht: é 🍲\n"
        assert detail_of(error, BadRequest()) == detail
        await refused(cook(channel)(TEXT()), CODES[raised.code])  # the connection is as good as before


async def test_a_failure_needs_no_details(make: Make) -> None:
    async with channel_to(make, failing(NotFound("no soup"))) as channel:
        error = await refused(cook(channel)(TEXT()), grpc.StatusCode.NOT_FOUND, "no soup")
        assert "grpc-status-details-bin" not in cast("grpc.aio.Metadata", error.trailing_metadata())


async def test_a_method_nobody_serves_is_unimplemented_by_name(make: Make) -> None:
    async with channel_to(make, echo) as channel:
        said = "unknown method Bake for service test.Kitchen"
        await refused(cook(channel, "/test.Kitchen/Bake")(TEXT()), grpc.StatusCode.UNIMPLEMENTED, said)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_request_is_understood(make: Make, compression: grpc.Compression) -> None:
    async with channel_to(make, echo) as channel:
        assert (await cook(channel)(TEXT(text="x" * 10_000), compression=compression)).text == "x" * 10_000


async def test_headers_are_metadata(make: Make) -> None:
    toy_service = ToyService(echo)
    async with channel_to(make, toy_service) as channel:
        for token in ("short", "t" * 50_000, "short"):
            await cook(channel)(TEXT(), metadata=(("authorization", token),))
    assert [call.metadata["authorization"] for call in toy_service.calls] == ["short", "t" * 50_000, "short"]


async def test_a_deadline_ends_the_handler(make: Make) -> None:
    ended = asyncio.Event()

    async def never(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with channel_to(make, never) as channel:
        await refused(cook(channel)(TEXT(), timeout=0.1), grpc.StatusCode.DEADLINE_EXCEEDED)
        await ended.wait()


@pytest.mark.parametrize("leave", ["cancel", "close"])
async def test_a_caller_that_leaves_ends_its_handler(make: Make, leave: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def never(request: Any) -> Any:
        if not request.text:
            return await echo(request)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with channel_to(make, never) as channel:
        call = cook(channel)(TEXT(text="x"))
        await begun.wait()
        if leave == "cancel":
            call.cancel()
            await ended.wait()
            assert await cook(channel)(TEXT()) == TEXT()
        else:
            await channel.close(None)
            await ended.wait()


async def test_calls_are_answered_side_by_side(make: Make) -> None:
    waiting: list[asyncio.Event] = []

    async def all_together(request: Any) -> Any:
        waiting.append(asyncio.Event())
        await waiting[-1].wait()
        return await echo(request)

    async with channel_to(make, all_together) as channel:
        calls = [asyncio.ensure_future(cook(channel)(TEXT(text=str(number)))) for number in range(CALLS)]
        await until(lambda: len(waiting) == CALLS, 60)
        for each in reversed(waiting):
            each.set()
        assert [reply.text for reply in await asyncio.gather(*calls)] == [str(number) for number in range(CALLS)]


async def test_large_messages_pass_both_ways(make: Make) -> None:
    text = "x" * LARGE
    async with channel_to(make, echo) as channel:
        replies = await asyncio.gather(*(cook(channel)(TEXT(text=text)) for _ in range(3)), cook(channel)(TEXT()))
        assert [len(reply.text) for reply in replies] == [LARGE, LARGE, LARGE, 0]


async def test_a_request_over_the_limit_is_refused_in_the_words_of_grpc(make: Make) -> None:
    async with channel_to(make, echo) as channel:
        too_large = cook(channel)(TEXT(text="x" * LIMIT))
        await refused(too_large, grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max")
        assert await cook(channel)(TEXT(text="soup")) == TEXT(text="soup")


async def test_health_is_told(make: Make) -> None:
    async with channel_to(make, echo) as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
