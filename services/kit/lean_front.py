"""The lean front: gRPC over HTTP/2 with what Flyte's calls need, for the gateway alone.

All of Flyte's methods are unary. grpcio's server costs several times as much for such a call as everything else that
happens to an event, and the bridge (`asgi_front`) several system calls for each, here and in Envoy
(docs/decisions/0011-lean-front.md). Beside the table of methods it answers health checks, by which the gateway chooses
between replicas.
"""

import asyncio

from services.kit.errors import ServiceError, Unavailable
from services.kit.grpc_http import CONTENT_TYPE, FRAME_HEAD, deadline, framed, message_of, refusal
from services.kit.header_blocks import STATUS_200, Headers, KnownFields, encoded
from services.kit.http2 import Connection
from services.kit.http2_answers import Reply
from services.kit.listen import listen
from services.kit.rpc import Call, Table

_HEAD = STATUS_200 + encoded([CONTENT_TYPE])
_SUCCESS = encoded([(b"grpc-status", b"0")])

_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
# A serialized HealthCheckResponse: SERVING. A front that ends takes no more calls, and so no more checks.
_SERVING = Reply(_HEAD, framed(b"\x08\x01"), _SUCCESS)


class LeanFront:
    """A gRPC server on `address` (host:port or unix:PATH) that answers unary calls from `table`."""

    def __init__(self, table: Table, address: str, max_message_bytes: int) -> None:
        self._table = table
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._known = KnownFields()
        self._connections: set[Connection] = set()

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken. A socket that a killed process left behind is replaced."""
        self._server = await listen(self._address, self._connection)

    async def stop(self, seconds: float) -> None:
        """Refuse new connections and calls, give the calls under way `seconds` to finish."""
        self._server.close()
        ended = [connection.end() for connection in self._connections]
        if ended:
            await asyncio.wait(ended, timeout=seconds)
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def _connection(self) -> asyncio.Protocol:
        return Connection(self._serve, FRAME_HEAD + self._max_message_bytes, self._known, self._connections)

    async def _serve(self, headers: Headers, body: bytes | bytearray) -> Reply:
        """Answer one request; a failure is an answer too, so nothing is raised."""
        path = headers.get(":path", "")
        if path == _HEALTH_CHECK:
            return _SERVING
        try:
            message = message_of(body, headers, self._max_message_bytes)
            reply = await self._table.serve(path, message, Call(metadata=headers, deadline=deadline(headers)))
        except ServiceError as error:
            return _refused(error)
        except asyncio.CancelledError:  # by `stop`, or the caller has gone and nobody is told
            return _refused(Unavailable("the service is ending"))
        return Reply(_HEAD, framed(reply), _SUCCESS)


def _refused(error: ServiceError) -> Reply:
    return Reply(STATUS_200 + encoded(refusal(error)))
