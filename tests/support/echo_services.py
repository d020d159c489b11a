"""Small real servers behind the gateway in its tests: Flyte's gRPC services, and a plain HTTP server.

`EchoServices` returns an empty message from every method of the five services unless it has a handler for it, and
stores the calls. It serves one owner, so a test sees where a call went: by the HTTP/2 server for the gateway, and by a
grpcio server, which allows whatever gRPC allows.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import grpc
from flyteidl.service import admin_pb2, auth_pb2, dataproxy_pb2, identity_pb2, signal_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from gateway.clusters import Address
from services.kit.errors import from_status
from services.kit.rpc import table as rpc
from services.kit.rpc.callers import ANONYMOUS, Caller, Callers
from services.kit.rpc.http2_server import Http2Server
from tests.support.parts import free_port

SERVICES = [
    service
    for module in (admin_pb2, auth_pb2, identity_pb2, dataproxy_pb2, signal_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
UNLIMITED = -1
LARGEST = 16 << 20  # bytes; the HTTP/2 server requires a size limit
SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", UNLIMITED),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.so_reuseport", 0),
]
CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Call:
    """One call as a service received it."""

    method: str
    request: Any
    metadata: Mapping[str, str | bytes]
    remaining_seconds: float | None
    caller: Caller = ANONYMOUS


class Failure(Exception):
    """Raised by a handler: the call fails with this status."""

    def __init__(self, code: int, message: str, *details: Message) -> None:
        super().__init__(message)
        self.status = Status(code=code, message=message)
        for detail in details:
            packed = detail if isinstance(detail, AnyMessage) else AnyMessage()
            if packed is not detail:
                packed.Pack(detail)
            self.status.details.append(packed)


Handler = Callable[[Any], Message | Awaitable[Message]]


class EchoServices(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """All five Flyte services, on a port of each server; with `callers` their HTTP/2 server knows who calls."""

    def __init__(self, callers: Callers | None = None) -> None:
        self._callers = callers
        self.calls: list[Call] = []
        self.handlers: dict[str, Handler] = {}
        self.port = free_port()
        self.grpcio_port = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method, as grpcio requires."""
        path = handler_call_details.method
        method = METHODS.get(path)
        if method is None:
            return None

        async def serve(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            metadata = dict(context.invocation_metadata() or ())
            call = Call(method.name, request, metadata, context.time_remaining())
            try:
                return await self._handle(method, call)
            except Failure as failure:
                status = failure.status
                details = (("grpc-status-details-bin", status.SerializeToString()),) if status.details else ()
                await context.abort(CODES[status.code], status.message, details)

        return grpc.unary_unary_rpc_method_handler(
            serve,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    async def _handle(self, method: MethodDescriptor, call: Call) -> Message:
        self.calls.append(call)
        reply = self.handlers.get(method.name, lambda _: GetMessageClass(method.output_type)())(call.request)
        return await reply if isinstance(reply, Awaitable) else reply

    @property
    def address(self) -> Address:
        """Return the address for the gateway."""
        return Address("127.0.0.1", self.port)

    @property
    def grpcio_address(self) -> Address:
        """Return the address for direct callers."""
        return Address("127.0.0.1", self.grpcio_port)

    def _table(self) -> rpc.Table:
        table = rpc.Table()
        if self._callers is not None:
            table.identify_callers(self._callers)
        for service in SERVICES:
            methods = {method.name: self._handler(method) for method in service.methods}
            table.bind(service, SimpleNamespace(**methods))
        return table

    def _handler(self, method: MethodDescriptor) -> Any:
        async def serve(request: Message, call: rpc.Call) -> Message:
            remaining = None if call.deadline is None else call.deadline - asyncio.get_running_loop().time()
            try:
                received = Call(method.name, request, call.metadata, remaining, call.caller)
                return await self._handle(method, received)
            except Failure as failure:
                raise from_status(failure.status) from failure

        return serve

    @property
    def last(self) -> Call:
        """Return the newest call."""
        return self.calls[-1]

    async def start(self) -> None:
        """Serve on loopback ports: free ones the first time, the same ones afterwards."""
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), self._server)
        self.grpcio_port = self._server.add_insecure_port(f"127.0.0.1:{self.grpcio_port}")
        await self._server.start()
        self._http2_server = Http2Server(self._table(), f"127.0.0.1:{self.port}", LARGEST)
        await self._http2_server.start()

    async def stop(self) -> None:
        """Stop at once, without finishing calls under way."""
        await asyncio.gather(self._server.stop(None), self._http2_server.stop(0))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve for the length of a block."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Be stopped for the length of a block."""
        await self.stop()
        try:
            yield
        finally:
            await self.start()


class HttpObjects:
    """A plain HTTP/1.1 server that stores objects by PUT and returns them by GET."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.first_piece_arrived = asyncio.Event()  # of the newest PUT

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve on a free loopback port and yield it."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                verb, target, _ = head.split("\r\n")[0].split(" ")
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                if verb == "PUT":
                    self.objects[target] = await self._body(reader, fields)
                body = self.objects[target] if verb == "GET" else b""
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    async def _body(self, reader: asyncio.StreamReader, fields: Mapping[str, str]) -> bytes:
        pieces = []
        if "content-length" in fields:
            remaining = int(fields["content-length"])
            while remaining:
                pieces.append(await reader.read(min(remaining, 1 << 16)))
                remaining -= len(pieces[-1])
                self.first_piece_arrived.set()
            return b"".join(pieces)
        while size := int(await reader.readline(), 16):
            pieces.append(await reader.readexactly(size))
            await reader.readline()
            self.first_piece_arrived.set()
        await reader.readline()
        return b"".join(pieces)
