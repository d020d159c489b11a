"""The grpcio server: passes serialized requests to the method table; serves health checks and reflection itself.

It is for direct callers, probes, reflection and watched health. The gateway's other calls go to `http2_server`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
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
from services.kit.rpc.cpu_pool import MOST_LOOP_BYTES
from services.kit.rpc.fairness import CONNECTION_HEADER, FairSemaphore, IncompleteRequestLimits
from services.kit.rpc.framing import NOT_WHOLE, TOO_MUCH, TOO_SLOW
from services.kit.rpc.health import CHECK, NOT_SERVING, SERVING, WATCH, check_health, parse_request, statuses_of
from services.kit.rpc.table import Call, Table

# Envoy pings a connection that was idle before it uses it again, and flytekit pings every 30 s
# (clients.md#keepalive); a server with default options sends GOAWAY after the third ping.
_PING_INTERVAL_MILLISECONDS = 5_000
# Headers of a caller: tokens and trace context; gRPC's default of 8 KiB is too short for some tokens.
_MAX_METADATA_BYTES = 64 * 1024
# Concurrent calls of one connection; the gateway opens another connection when it has more.
_MOST_STREAMS = 1000
# Received bytes of a message that is not being read yet. grpcio would widen this for a fast sender.
_UNREAD_BYTES = 64 * 1024
# How long a call waits for a slot to be read: as long as one waits for the database.
_READ_SLOT_SECONDS = 5.0
# Paths of reflection; both versions have the same messages.
_REFLECTION_PATHS = tuple(
    f"/{service}/ServerReflectionInfo" for service in (REFLECTION_SERVICE, "grpc.reflection.v1.ServerReflection")
)

if TYPE_CHECKING:
    _Context = grpc.aio.ServicerContext[bytes, bytes]

_Serve = Callable[[bytes, "_Context"], Awaitable[bytes]]
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioServer:
    """A gRPC server on `address` (host:port) for the methods of `table`.

    Health checks may name each of `services`, and reflection describes them.
    """

    def __init__(
        self,
        table: Table,
        services: Iterable[str],
        address: str,
        max_message_bytes: int,
        incomplete: IncompleteRequestLimits | None = None,
    ) -> None:
        limits = incomplete or IncompleteRequestLimits()
        self._services = tuple(services)
        self._health = HealthServicer()
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # two processes on one port must fail, not share
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),  # pages are limited where they are read (`lists.pages`)
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.max_concurrent_streams", _MOST_STREAMS),
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", _UNREAD_BYTES),
                ("grpc.server_handshake_timeout_ms", int(limits.seconds * 1000)),
                ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MILLISECONDS),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        reader = _RequestReader(limits, max_message_bytes)
        reflection = ReflectionServicer((*self._services, HEALTH_SERVICE, REFLECTION_SERVICE))
        others = _other_handlers(reader, self._check, self._health, reflection, table)
        self._server.add_generic_rpc_handlers((_AllPaths(table, reader, others),))
        self._address = address

    async def start(self) -> None:
        """Listen and report SERVING; raise RuntimeError when the port is in use."""
        self._server.add_insecure_port(self._address)
        await self._server.start()
        await self._report(SERVING)

    async def stop(self, seconds: float) -> None:
        """Report NOT_SERVING and refuse new calls; calls under way have `seconds` to finish."""
        await self._report(NOT_SERVING)
        await self._server.stop(seconds)

    async def _check(self, message: bytes, _context: "_Context") -> bytes:
        return check_health(self._statuses, message)

    async def _report(self, status: HealthCheckResponse.ServingStatus) -> None:
        self._statuses = statuses_of(self._services, status)
        for name in self._statuses:
            await self._health.set(name, status)


class _RequestReader:
    """Reads the messages of calls.

    At most `slots` requests are read at a time, at most half of them from one client connection. The sender of a
    message that is not being read is stopped by flow control.
    """

    def __init__(self, limits: IncompleteRequestLimits, max_message_bytes: int) -> None:
        slots = max(2, limits.total // max_message_bytes)
        self._budget = limits.budget
        self._semaphore = FairSemaphore(slots, slots // 2)
        self._seconds = limits.seconds

    async def read_one(self, requests: AsyncIterator[bytes], context: "_Context") -> bytes:
        """Return the one message of a call.

        Raises:
            InvalidArgument: the call has no message.
            DeadlineExceeded: the message did not arrive in time.
            ResourceExhausted: too many other messages are being read.
        """
        connection = _metadata(context)[CONNECTION_HEADER]
        try:
            await self._semaphore.acquire(connection, _READ_SLOT_SECONDS)
        except TimeoutError:
            raise ResourceExhausted(TOO_MUCH) from None
        try:
            async with asyncio.timeout(self._seconds):
                message = await anext(aiter(requests), None)
        except TimeoutError:
            raise DeadlineExceeded(TOO_SLOW) from None
        finally:
            self._semaphore.release(connection)
        if message is None:
            raise InvalidArgument(NOT_WHOLE)
        return message

    @contextmanager
    def counted(self, message: bytes, context: "_Context") -> Iterator[None]:
        """Reserve the size of a large message until its response; raise ResourceExhausted if it does not fit."""
        if len(message) <= MOST_LOOP_BYTES:
            yield
            return
        connection = _metadata(context)[CONNECTION_HEADER]
        if not self._budget.acquire(connection, len(message)):
            raise ResourceExhausted(TOO_MUCH)
        try:
            yield
        finally:
            self._budget.release(connection, len(message))


class _AllPaths(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Accepts every path, so that the method table refuses unknown methods and names them.

    To grpcio each call is a stream of requests: otherwise a call whose message never arrives would have no response.
    """

    def __init__(
        self, table: Table, reader: _RequestReader, others: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        self._table = table
        self._reader = reader
        self._others = others

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler of one call."""
        path = handler_call_details.method

        async def serve(message: bytes, context: "_Context") -> bytes:
            return await self._table.serve(
                path, message, Call(metadata=_metadata(context), deadline=_deadline(context))
            )

        return self._others.get(path) or _unary(self._reader, serve)


def _unary(reader: _RequestReader, serve: _Serve) -> "grpc.RpcMethodHandler[bytes, bytes]":
    async def respond(requests: AsyncIterator[bytes], context: "_Context") -> bytes:
        try:
            message = await reader.read_one(requests, context)
            with reader.counted(message, context):
                return await serve(message, context)
        except ServiceError as error:
            await _abort(context, error)

    return grpc.stream_unary_rpc_method_handler(respond)


def _other_handlers(
    reader: _RequestReader, check: _Serve, watched: HealthServicer, reflection: ReflectionServicer, table: Table
) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """Return the handlers of health checks and reflection, by path; anyone may check health."""

    async def watch(requests: AsyncIterator[bytes], context: "_Context") -> None:
        try:
            request = parse_request(await reader.read_one(requests, context))
        except ServiceError as error:
            await _abort(context, error)
        await watched.Watch(request, context)

    async def reflect(requests: AsyncIterator[bytes], context: "_Context") -> AsyncIterator[ServerReflectionResponse]:
        async def read() -> AsyncIterator[ServerReflectionRequest]:
            async for message in requests:
                try:
                    yield ServerReflectionRequest.FromString(message)
                except DecodeError:
                    await _abort(context, InvalidArgument("the request is not a ServerReflectionRequest"))

        try:
            table.caller_of(_metadata(context))
        except ServiceError as error:
            await _abort(context, error)
        async for response in reflection.ServerReflectionInfo(read(), context):
            yield response

    def stream(serve: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        return grpc.stream_stream_rpc_method_handler(
            serve, response_serializer=lambda response: response.SerializeToString()
        )

    return {CHECK: _unary(reader, check), WATCH: stream(watch)} | dict.fromkeys(_REFLECTION_PATHS, stream(reflect))


def _metadata(context: "_Context") -> dict[str, str]:
    """Return the headers of a call; without the gateway's header a client connection is the caller's own."""
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    return {CONNECTION_HEADER: context.peer(), **metadata}


def _deadline(context: "_Context") -> float | None:
    seconds = context.time_remaining()
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


async def _abort(context: "_Context", error: ServiceError) -> NoReturn:
    status = to_status(error)
    if error.details:
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(_CODES[error.code], status.message)
