"""The lean front: gRPC over HTTP/2 with what Flyte's calls need, for the gateway alone.

All of Flyte's methods are unary. grpcio's server costs several times as much for such a call as everything else that
happens to an event (docs/decisions/0011-lean-front.md). In addition to the table of methods it serves health checks, by
which the gateway chooses between replicas.
"""

import asyncio
from collections.abc import Iterable

from services.kit.errors import DeadlineExceeded, ResourceExhausted, ServiceError, Unavailable
from services.kit.http2.connection import Connection, IncompleteRequests
from services.kit.http2.headers import STATUS_200, HeaderFieldCache, Headers, encoded
from services.kit.http2.responses import Response
from services.kit.rpc.fairness import ArrivalLimits
from services.kit.rpc.framing import (
    CONTENT_TYPE,
    FRAME_HEAD,
    TOO_MUCH,
    TOO_SLOW,
    deadline,
    decode_frame,
    encode_frame,
    refusal,
)
from services.kit.rpc.health import CHECK, SERVING, health, states
from services.kit.rpc.listen import listen
from services.kit.rpc.table import Call, Table

_HEAD = STATUS_200 + encoded([CONTENT_TYPE])
_SUCCESS = encoded([(b"grpc-status", b"0")])


class Http2Server:
    """A gRPC server on `address` (host:port or unix:PATH) that answers unary calls from `table`.

    Health checks may ask for each of `services` by its name.
    """

    def __init__(
        self,
        table: Table,
        address: str,
        max_message_bytes: int,
        services: Iterable[str] = (),
        arrivals: ArrivalLimits | None = None,
    ) -> None:
        self._table = table
        self._health = states(services, SERVING)
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._known = HeaderFieldCache()
        self._connections: set[Connection] = set()
        arrivals = arrivals or ArrivalLimits()
        told = _refused(ResourceExhausted(TOO_MUCH)), _refused(DeadlineExceeded(TOO_SLOW))
        self._unfinished = IncompleteRequests(arrivals.shares, arrivals.seconds, *told)

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken. A socket that a killed process left behind is replaced."""
        self._loop = asyncio.get_running_loop()
        self._server = await listen(self._address, self._connection)

    async def stop(self, seconds: float) -> None:
        """Refuse new connections and calls, give the calls under way `seconds` to finish."""
        self._server.close()
        ended = [connection.end() for connection in self._connections]
        if ended:
            await asyncio.wait(ended, timeout=seconds)
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def _connection(self) -> asyncio.Protocol:
        most = FRAME_HEAD + self._max_message_bytes
        return Connection(self._serve, most, self._known, self._connections, self._unfinished)

    async def _serve(self, headers: Headers, body: bytes | bytearray) -> Response:
        """Answer one request; a failure is an answer too, so nothing is raised."""
        path = headers.get(":path", "")
        try:
            message = decode_frame(body, headers, self._max_message_bytes)
            if path == CHECK:
                # A front that ends takes no more calls, and so no more checks.
                return Response(_HEAD, encode_frame(health(self._health, message)), _SUCCESS)
            call = Call(metadata=headers, deadline=deadline(headers, self._loop.time()))
            reply = await self._table.serve(path, message, call)
        except ServiceError as error:
            return _refused(error)
        except asyncio.CancelledError:  # by `stop`, or the caller has gone and nobody is told
            return _refused(Unavailable("the service is ending"))
        return Response(_HEAD, encode_frame(reply), _SUCCESS)


def _refused(error: ServiceError) -> Response:
    return Response(STATUS_200 + encoded(refusal(error)))
