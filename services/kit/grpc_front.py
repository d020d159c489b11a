"""The gRPC front: a grpcio server that hands bytes to the table of methods, with health and reflection beside it.

For direct callers, probes and reflection; and for the gateway's calls where no other front is on (`lean_front`,
`asgi_front`).
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection

from services.kit.errors import ServiceError, to_status
from services.kit.rpc import Call, Table

# What the reference registers with the health service beside the empty name (gateway.md A.9).
HEALTH_SERVICE_NAME = "flyteadmin"
# Envoy pings a connection that was idle before it uses it again, and flytekit pings every 30 s; a stock server would
# answer the third ping with GOAWAY.
_PING_INTERVAL_MILLISECONDS = 5_000
# Headers of a caller: tokens and trace context; gRPC's own default of 8 KiB is short for some tokens.
_MAX_METADATA_BYTES = 64 * 1024

if TYPE_CHECKING:
    _Context = grpc.aio.ServicerContext[bytes, bytes]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcFront:
    """A gRPC server on `address` (host:port) that answers from `table`."""

    def __init__(self, table: Table, services: Iterable[str], address: str, max_message_bytes: int) -> None:
        self._health = HealthServicer()
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # two processes on one port must fail, not share
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),  # an answer is as long as what was asked for
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MILLISECONDS),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*services, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._server.add_generic_rpc_handlers((_Everything(table),))
        self._address = address

    async def start(self) -> None:
        """Listen and report SERVING; raises RuntimeError when the port is taken."""
        self._server.add_insecure_port(self._address)
        await self._server.start()
        await self._report(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, seconds: float) -> None:
        """Report NOT_SERVING, refuse new calls, give those under way `seconds` to finish."""
        await self._report(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.stop(seconds)

    async def _report(self, state: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", HEALTH_SERVICE_NAME):
            await self._health.set(name, state)


class _Everything(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Takes every path, so that an unknown method is refused by the table, naming itself."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Bind one call to its path."""
        path = handler_call_details.method

        async def serve(request: bytes, context: "_Context") -> bytes:
            metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            try:
                return await self._table.serve(path, request, Call(metadata=metadata, deadline=_deadline(context)))
            except ServiceError as error:
                await _refuse(context, error)

        return grpc.unary_unary_rpc_method_handler(serve)


def _deadline(context: "_Context") -> float | None:
    seconds = context.time_remaining()
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


async def _refuse(context: "_Context", error: ServiceError) -> NoReturn:
    status = to_status(error)
    if error.details:
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(_CODES[error.code], status.message)
