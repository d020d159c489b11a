"""The gRPC front: a grpcio server that hands bytes to the table of methods, with health and reflection beside it.

For direct callers, probes, reflection and watched health. The gateway's other calls go to `http2_server`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION_SERVICE
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from services.kit.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, ServiceError, to_status
from services.kit.rpc.fairness import CONNECTION, ArrivalLimits, FairSemaphore
from services.kit.rpc.framing import NOT_WHOLE, TOO_MUCH, TOO_SLOW
from services.kit.rpc.health import CHECK, NOT_SERVING, SERVING, WATCH, asked, health, states
from services.kit.rpc.table import Call, Table

# Envoy pings a connection that was idle before it uses it again, and flytekit pings every 30 s; a stock server would
# answer the third ping with GOAWAY.
_PING_INTERVAL_MILLISECONDS = 5_000
# Headers of a caller: tokens and trace context; gRPC's own default of 8 KiB is short for some tokens.
_MAX_METADATA_BYTES = 64 * 1024
# Calls of one connection at a time; the gateway opens another connection when it has more.
_MOST_STREAMS = 1000
# Of a message that nobody reads yet. grpcio would widen this for a fast sender, whatever is read.
_UNREAD_BYTES = 64 * 1024
# How long a message that has begun may wait for others to arrive, as with a turn at the database.
_TURN_SECONDS = 5.0
# Of reflection; the messages of both are the same.
_REFLECTION_PATHS = tuple(
    f"/{service}/ServerReflectionInfo" for service in (REFLECTION_SERVICE, "grpc.reflection.v1.ServerReflection")
)

if TYPE_CHECKING:
    _Context = grpc.aio.ServicerContext[bytes, bytes]

_Serve = Callable[[bytes, "_Context"], Awaitable[bytes]]
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioServer:
    """A gRPC server on `address` (host:port) that answers from `table`.

    Health checks may ask for each of `services` by its name, and reflection describes them.
    """

    def __init__(
        self,
        table: Table,
        services: Iterable[str],
        address: str,
        max_message_bytes: int,
        arrivals: ArrivalLimits | None = None,
    ) -> None:
        arrivals = arrivals or ArrivalLimits()
        self._services = tuple(services)
        self._health = HealthServicer()
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # two processes on one port must fail, not share
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),  # an answer is as long as what was asked for
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.max_concurrent_streams", _MOST_STREAMS),
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", _UNREAD_BYTES),
                ("grpc.server_handshake_timeout_ms", int(arrivals.seconds * 1000)),
                ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MILLISECONDS),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        reading = _Reading(arrivals, max_message_bytes)
        reflection = ReflectionServicer((*self._services, HEALTH_SERVICE, REFLECTION_SERVICE))
        inquiries = _inquiries(reading, self._check, self._health, reflection)
        self._server.add_generic_rpc_handlers((_Everything(table, reading, inquiries),))
        self._address = address

    async def start(self) -> None:
        """Listen and report SERVING; raises RuntimeError when the port is taken."""
        self._server.add_insecure_port(self._address)
        await self._server.start()
        await self._report(SERVING)

    async def stop(self, seconds: float) -> None:
        """Report NOT_SERVING, refuse new calls, give those under way `seconds` to finish."""
        await self._report(NOT_SERVING)
        await self._server.stop(seconds)

    async def _check(self, message: bytes, _context: "_Context") -> bytes:
        return health(self._states, message)

    async def _report(self, state: HealthCheckResponse.ServingStatus) -> None:
        self._states = states(self._services, state)
        for name in self._states:
            await self._health.set(name, state)


class _Reading:
    """Takes requests off the wire: as many at a time as may be unfinished, those of a connection half of that.

    What has arrived is read at once; a message that is not read is held up in its sender.
    """

    def __init__(self, arrivals: ArrivalLimits, max_message_bytes: int) -> None:
        places = max(2, arrivals.total // max_message_bytes)
        self._turns = FairSemaphore(places, places // 2)
        self._seconds = arrivals.seconds

    async def one(self, requests: AsyncIterator[bytes], context: "_Context") -> bytes:
        """Return the one message of a call.

        Raises InvalidArgument when it ends before, DeadlineExceeded and ResourceExhausted.
        """
        peer = _metadata(context)[CONNECTION]
        try:
            await self._turns.take(peer, _TURN_SECONDS)
        except TimeoutError:
            raise ResourceExhausted(TOO_MUCH) from None
        try:
            async with asyncio.timeout(self._seconds):
                message = await anext(aiter(requests), None)
        except TimeoutError:
            raise DeadlineExceeded(TOO_SLOW) from None
        finally:
            self._turns.give(peer)
        if message is None:
            raise InvalidArgument(NOT_WHOLE)
        return message


class _Everything(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Takes every path, so that an unknown method is refused by the table, naming itself.

    To grpcio each call is a stream of requests: one whose message never comes would not be answered otherwise.
    """

    def __init__(
        self, table: Table, reading: _Reading, inquiries: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        self._table = table
        self._reading = reading
        self._inquiries = inquiries

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Bind one call to its path."""
        path = handler_call_details.method

        async def serve(message: bytes, context: "_Context") -> bytes:
            return await self._table.serve(
                path, message, Call(metadata=_metadata(context), deadline=_deadline(context))
            )

        return self._inquiries.get(path) or _unary(self._reading, serve)


def _unary(reading: _Reading, serve: _Serve) -> "grpc.RpcMethodHandler[bytes, bytes]":
    async def answer(requests: AsyncIterator[bytes], context: "_Context") -> bytes:
        try:
            return await serve(await reading.one(requests, context), context)
        except ServiceError as error:
            await _refuse(context, error)

    return grpc.stream_unary_rpc_method_handler(answer)


def _inquiries(
    reading: _Reading, check: _Serve, watched: HealthServicer, reflection: ReflectionServicer
) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """Return the handlers of what tools ask beside Flyte's methods, by path."""

    async def watch(requests: AsyncIterator[bytes], context: "_Context") -> None:
        try:
            request = asked(await reading.one(requests, context))
        except ServiceError as error:
            await _refuse(context, error)
        await watched.Watch(request, context)

    async def reflect(requests: AsyncIterator[bytes], context: "_Context") -> AsyncIterator[ServerReflectionResponse]:
        async def read() -> AsyncIterator[ServerReflectionRequest]:
            async for message in requests:
                try:
                    yield ServerReflectionRequest.FromString(message)
                except DecodeError:
                    await _refuse(context, InvalidArgument("the request is not a ServerReflectionRequest"))

        async for response in reflection.ServerReflectionInfo(read(), context):
            yield response

    def stream(serve: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        return grpc.stream_stream_rpc_method_handler(
            serve, response_serializer=lambda response: response.SerializeToString()
        )

    return {CHECK: _unary(reading, check), WATCH: stream(watch)} | dict.fromkeys(_REFLECTION_PATHS, stream(reflect))


def _metadata(context: "_Context") -> dict[str, str]:
    """Return the headers of a call; a direct caller's connection is its own."""
    given = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    return {CONNECTION: context.peer(), **given}


def _deadline(context: "_Context") -> float | None:
    seconds = context.time_remaining()
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


async def _refuse(context: "_Context", error: ServiceError) -> NoReturn:
    status = to_status(error)
    if error.details:
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(_CODES[error.code], status.message)
