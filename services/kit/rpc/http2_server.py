"""The HTTP/2 server: unary gRPC over HTTP/2, for the gateway alone.

All of Flyte's methods are unary. For such a call grpcio's server costs several times as much as all other work on an
event (docs/decisions/0011-http2-server.md). In addition to the method table this server serves health checks, by which
the gateway chooses between replicas.
"""

import asyncio
from collections.abc import Iterable

from services.kit.errors import DeadlineExceeded, ResourceExhausted, ServiceError, Unavailable
from services.kit.http2.connection import Connection, IncompleteRequests
from services.kit.http2.headers import STATUS_200, HeaderFieldCache, Headers, encode
from services.kit.http2.responses import Response
from services.kit.rpc.cpu_pool import MOST_LOOP_BYTES
from services.kit.rpc.fairness import IncompleteRequestLimits
from services.kit.rpc.framing import (
    CONTENT_TYPE,
    FRAME_HEAD,
    TOO_MUCH,
    TOO_SLOW,
    deadline,
    decode_frame,
    encode_frame,
    failure_headers,
)
from services.kit.rpc.health import CHECK, SERVING, check_health, statuses_of
from services.kit.rpc.listen import listen
from services.kit.rpc.table import Call, Table

_HEAD = STATUS_200 + encode([CONTENT_TYPE])
_SUCCESS = encode([(b"grpc-status", b"0")])


class Http2Server:
    """A gRPC server on `address` (host:port or unix:PATH) for the unary methods of `table`.

    Health checks may name each of `services`.
    """

    def __init__(
        self,
        table: Table,
        address: str,
        max_message_bytes: int,
        services: Iterable[str] = (),
        incomplete: IncompleteRequestLimits | None = None,
    ) -> None:
        self._table = table
        self._health = statuses_of(services, SERVING)
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._header_fields = HeaderFieldCache()
        self._connections: set[Connection] = set()
        limits = incomplete or IncompleteRequestLimits()
        self._incomplete = IncompleteRequests(
            limits.budget,
            limits.seconds,
            too_much=_failure(ResourceExhausted(TOO_MUCH)),
            too_slow=_failure(DeadlineExceeded(TOO_SLOW)),
        )

    async def start(self) -> None:
        """Listen; raise OSError when the port is in use. A socket that a killed process left behind is replaced."""
        self._loop = asyncio.get_running_loop()
        self._server = await listen(self._address, self._connection)

    async def stop(self, seconds: float) -> None:
        """Refuse new connections and calls; calls under way have `seconds` to finish."""
        self._server.close()
        drained = [connection.drain() for connection in self._connections]
        if drained:
            await asyncio.wait(drained, timeout=seconds)
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def _connection(self) -> asyncio.Protocol:
        most = FRAME_HEAD + self._max_message_bytes
        return Connection(self._serve, most, self._header_fields, self._connections, self._incomplete)

    async def _serve(self, headers: Headers, body: bytes | bytearray) -> Response:
        """Return the response to one request; a failure is a response too, nothing is raised."""
        path = headers.get(":path", "")
        try:
            if path == CHECK:
                # While the server stops it refuses every call, health checks too: no check returns NOT_SERVING.
                return Response(_HEAD, encode_frame(self._check(headers, body)), _SUCCESS)
            message = decode_frame(body, headers, self._max_message_bytes)
            del body  # a large one would be in memory twice
            call = Call(metadata=headers, deadline=deadline(headers, self._loop.time()))
            reply = await self._table.serve(path, message, call)
        except ServiceError as error:
            return _failure(error)
        except asyncio.CancelledError:  # by `stop`, or the client has gone and the response is dropped
            return _failure(Unavailable("the service is ending"))
        return Response(_HEAD, encode_frame(reply), _SUCCESS)

    def _check(self, headers: Headers, body: bytes | bytearray) -> bytes:
        message = decode_frame(body, headers, min(self._max_message_bytes, MOST_LOOP_BYTES))
        return check_health(self._health, message if isinstance(message, bytes) else message.decompressed())


def _failure(error: ServiceError) -> Response:
    return Response(STATUS_200 + encode(failure_headers(error)))
