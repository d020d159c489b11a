"""The grpcio server and the HTTP/2 server behave alike for a gRPC client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.kit.errors import NotFound, ServiceError
from services.kit.rpc.callers import ANONYMOUS, CLAIMS_HEADER, Callers
from services.kit.rpc.fairness import IncompleteRequestLimits
from services.kit.rpc.grpcio_server import GrpcioServer
from services.kit.rpc.http2_server import Http2Server
from tests.support.callers import SECRET, sent_by_gateway
from tests.support.parts import free_port
from tests.support.refusals import detail_of, refused
from tests.support.toy_service import METHOD_PATH, TEXT, ToyService, echo, failing
from tests.support.waiting import until

LIMIT = 12 << 20
CALLS = 1_000
LARGE = 10 << 20
COUNTED = 100_000
CODES = {code.value[0]: code for code in grpc.StatusCode}

Make = Callable[[ToyService, str], GrpcioServer | Http2Server]
Method = Callable[..., Any]

MAKE: dict[str, Make] = {
    "grpcio": lambda toy_service, address: GrpcioServer(toy_service.table, (), address, LIMIT),
    "http2": lambda toy_service, address: Http2Server(toy_service.table, address, LIMIT),
}


@pytest.fixture(name="make", params=MAKE.values(), ids=list(MAKE))
def _make(request: pytest.FixtureRequest) -> Make:
    make: Make = request.param
    return make


@asynccontextmanager
async def channel_to(
    make: Make, toy_service: ToyService | Callable[[Any], Awaitable[Any]]
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve a toy service, or one with this handler; yield a client's channel."""
    address = f"127.0.0.1:{free_port()}"
    server = make(toy_service if isinstance(toy_service, ToyService) else ToyService(toy_service), address)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
            yield channel
    finally:
        await server.stop(0)


def method(channel: grpc.aio.Channel, path: str = METHOD_PATH) -> Method:
    call: Method = channel.unary_unary(path, TEXT.SerializeToString, TEXT.FromString)
    return call


async def test_a_call_has_its_reply(make: Make) -> None:
    async with channel_to(make, echo) as channel:
        for text in ("", "soup", "Übermäßig 🍲"):
            assert (await method(channel)(TEXT(text=text))).text == text


async def test_stored_bytes_are_a_reply(make: Make) -> None:
    async def stored(_: Any) -> bytes:
        return bytes(TEXT(text="as it was").SerializeToString())

    async with channel_to(make, stored) as channel:
        assert (await method(channel)(TEXT())).text == "as it was"


@pytest.mark.parametrize("raised", ServiceError.__subclasses__(), ids=lambda raised: raised.__name__)
async def test_a_failure_arrives_with_code_message_and_details(make: Make, raised: type[ServiceError]) -> None:
    detail = BadRequest(field_violations=[BadRequest.FieldViolation(field="x")])
    async with channel_to(make, failing(raised("100 % schlecht: é 🍲\n", detail))) as channel:
        error = await refused(method(channel)(TEXT()), CODES[raised.code])
        assert error.details() == "100 % schlecht: é 🍲\n"
        assert detail_of(error, BadRequest()) == detail
        await refused(method(channel)(TEXT()), CODES[raised.code])  # the connection is usable


async def test_a_failure_without_details_has_no_details_header(make: Make) -> None:
    async with channel_to(make, failing(NotFound("no soup"))) as channel:
        error = await refused(method(channel)(TEXT()), grpc.StatusCode.NOT_FOUND, "no soup")
        assert "grpc-status-details-bin" not in cast("grpc.aio.Metadata", error.trailing_metadata())


@pytest.mark.parametrize("character", ["x", "%", "🍲"])
@pytest.mark.parametrize("details", [(), (BadRequest(),)], ids=["plain", "with a detail"])
async def test_a_long_failure_arrives_within_the_limits_of_clients(
    make: Make, character: str, details: tuple[BadRequest, ...]
) -> None:
    """A client that receives more than 8 KiB of metadata reports RESOURCE_EXHAUSTED instead."""
    async with channel_to(make, failing(NotFound(character * 20_000, *details))) as channel:
        error = await refused(method(channel)(TEXT()), grpc.StatusCode.NOT_FOUND, "characters left out")
        assert all(detail_of(error, BadRequest()) == detail for detail in details)


async def test_an_unknown_method_is_unimplemented_by_name(make: Make) -> None:
    async with channel_to(make, echo) as channel:
        message = "unknown method Other for service test.Toy"
        await refused(method(channel, "/test.Toy/Other")(TEXT()), grpc.StatusCode.UNIMPLEMENTED, message)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("size", [10, 10_000, 100_000])
async def test_a_compressed_request_is_decompressed(make: Make, compression: grpc.Compression, size: int) -> None:
    async with channel_to(make, echo) as channel:
        assert (await method(channel)(TEXT(text="x" * size), compression=compression)).text == "x" * size


async def test_headers_are_metadata(make: Make) -> None:
    toy_service = ToyService(echo)
    async with channel_to(make, toy_service) as channel:
        for token in ("short", "other", "short"):
            await method(channel)(TEXT(), metadata=(("authorization", token), ("x-large", "t" * 50_000)))
    assert [call.metadata["authorization"] for call in toy_service.calls] == ["short", "other", "short"]


async def test_a_deadline_cancels_the_handler(make: Make) -> None:
    ended = asyncio.Event()

    async def never(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with channel_to(make, never) as channel:
        await refused(method(channel)(TEXT(), timeout=0.1), grpc.StatusCode.DEADLINE_EXCEEDED)
        await ended.wait()


async def test_a_handler_that_ends_its_work_at_the_deadline_is_not_cancelled_again() -> None:
    """Its client cancels it as well: a second time would interrupt what ends a statement of the database."""
    loop = asyncio.get_running_loop()
    cancelled, may_end = asyncio.Event(), asyncio.Event()
    end = loop.create_future()

    async def works(request: Any) -> Any:
        if not request.text:
            return await echo(request)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            try:
                await may_end.wait()
                end.set_result("done")
            finally:
                if not end.done():
                    end.set_result("interrupted")

    toy_service = ToyService(works)
    async with channel_to(MAKE["http2"], toy_service) as channel:
        call = method(channel)
        await refused(call(TEXT(text="x"), timeout=0.1), grpc.StatusCode.DEADLINE_EXCEEDED)
        await cancelled.wait()
        assert await call(TEXT()) == TEXT()  # behind the reset of the stream
        await until(lambda: loop.time() > (toy_service.calls[0].deadline or 0))
        may_end.set()
        assert await end == "done"


@pytest.mark.parametrize("leave", ["cancel", "close"])
async def test_a_caller_that_leaves_cancels_its_handler(make: Make, leave: str) -> None:
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
        call = method(channel)(TEXT(text="x"))
        await begun.wait()
        if leave == "cancel":
            call.cancel()
            await ended.wait()
            assert await method(channel)(TEXT()) == TEXT()
        else:
            await channel.close(None)
            await ended.wait()


async def test_calls_are_served_concurrently(make: Make) -> None:
    waiting: list[asyncio.Event] = []

    async def all_together(request: Any) -> Any:
        waiting.append(asyncio.Event())
        await waiting[-1].wait()
        return await echo(request)

    async with channel_to(make, all_together) as channel:
        calls = [asyncio.ensure_future(method(channel)(TEXT(text=str(number)))) for number in range(CALLS)]
        await until(lambda: len(waiting) == CALLS, 60)
        for event in reversed(waiting):
            event.set()
        assert [reply.text for reply in await asyncio.gather(*calls)] == [str(number) for number in range(CALLS)]


async def test_large_messages_pass_in_both_directions(make: Make) -> None:
    text = "x" * LARGE
    async with channel_to(make, echo) as channel:
        replies = await asyncio.gather(*(method(channel)(TEXT(text=text)) for _ in range(3)), method(channel)(TEXT()))
        assert [len(reply.text) for reply in replies] == [LARGE, LARGE, LARGE, 0]


@pytest.mark.parametrize("server", [GrpcioServer, Http2Server])
async def test_large_requests_are_counted_until_their_reply(server: type[Any]) -> None:
    limits, may_respond = IncompleteRequestLimits(total=10 * COUNTED), asyncio.Event()

    async def wait(_: Any) -> Any:
        await may_respond.wait()
        return TEXT()

    def make(toy_service: ToyService, address: str) -> GrpcioServer | Http2Server:
        made: GrpcioServer | Http2Server = server(
            toy_service.table, address=address, max_message_bytes=LIMIT, services=(), incomplete=limits
        )
        return made

    async with channel_to(make, wait) as channel:
        calls = [asyncio.ensure_future(method(channel)(TEXT(text="x" * COUNTED))) for _ in range(10)]
        await until(lambda: sum(call.done() for call in calls) >= 5, 10)
        may_respond.set()
        replies = await asyncio.gather(*calls, return_exceptions=True)
        refused_calls = [reply for reply in replies if isinstance(reply, grpc.aio.AioRpcError)]
        assert {call.code() for call in refused_calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert len(refused_calls) < len(calls)
        await method(channel)(TEXT(text="x" * COUNTED))


async def test_a_request_over_the_limit_is_refused_with_grpcs_message(make: Make) -> None:
    async with channel_to(make, echo) as channel:
        too_large = method(channel)(TEXT(text="x" * LIMIT))
        await refused(too_large, grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max")
        assert await method(channel)(TEXT(text="soup")) == TEXT(text="soup")


async def test_health_check_is_serving(make: Make) -> None:
    async with channel_to(make, echo) as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("headers", [{}, sent_by_gateway("another secret 1", sub="root"), {CLAIMS_HEADER: "e30"}])
async def test_a_service_with_a_secret_refuses_all_but_health_checks_without_it(
    make: Make, headers: dict[str, str]
) -> None:
    toy_service = ToyService(echo, callers=Callers(SECRET))
    metadata = tuple(headers.items())
    async with channel_to(make, toy_service) as channel:
        for path in (METHOD_PATH, "/test.Toy/Unknown"):
            call = method(channel, path)(TEXT(), metadata=metadata)
            await refused(call, grpc.StatusCode.UNAUTHENTICATED, "only the gateway may call this port")
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), metadata=metadata)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    assert not toy_service.calls


async def test_a_service_with_a_secret_knows_the_callers_of_the_gateway(make: Make) -> None:
    toy_service = ToyService(echo, callers=Callers(SECRET))
    callers = [{"sub": "a", "azp": "flytectl", "long": "x" * 3000}, {"sub": "é"}, {}]
    async with channel_to(make, toy_service) as channel:
        for claims in callers * 2:
            await method(channel)(TEXT(), metadata=tuple(sent_by_gateway(**claims).items()), timeout=5)
    assert [dict(call.caller.claims) for call in toy_service.calls] == callers * 2
    assert [call.principal for call in toy_service.calls] == ["a", "é", ""] * 2


async def test_a_service_without_a_secret_believes_no_claims(make: Make) -> None:
    toy_service = ToyService(echo)
    async with channel_to(make, toy_service) as channel:
        await method(channel)(TEXT(), metadata=tuple(sent_by_gateway(sub="root").items()))
    assert [(call.principal, call.caller) for call in toy_service.calls] == [("", ANONYMOUS)]


async def test_reflection_needs_the_secret() -> None:
    async with channel_to(MAKE["grpcio"], ToyService(echo, callers=Callers(SECRET))) as channel:
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        # As a unary call: grpcio's client reports INTERNAL for a stream that ends before it has sent its request.
        call = channel.unary_unary("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", bytes, bytes)(b"")
        await refused(call, grpc.StatusCode.UNAUTHENTICATED)
        replies = [reply async for reply in reflect(iter([question]), metadata=tuple(sent_by_gateway().items()))]
        assert replies[0].list_services_response.service
