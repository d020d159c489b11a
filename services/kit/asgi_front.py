"""The front behind the bridge: the same table of methods over HTTP/1.1, for Envoy's `grpc_http1_reverse_bridge`.

A gRPC call costs grpcio's server several times the CPU that it costs uvicorn (docs/decisions/0007-two-fronts.md). The
bridge hands over the call as it came, one framed message in the body of a POST, and makes the trailers of a success. A
failure is answered without a body and with gRPC's own words in the headers, which to every gRPC client is a
"Trailers-Only" answer: code, message and details arrive, and the gateway's retries see them, without any script.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, MutableMapping
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from services.kit.errors import DeadlineExceeded, ResourceExhausted, ServiceError, Unavailable
from services.kit.fairness import AS_A_WHOLE, CONNECTION, Arrivals
from services.kit.grpc_http import (
    CONTENT_TYPE,
    FRAME_HEAD,
    TOO_MUCH,
    TOO_SLOW,
    announced,
    deadline,
    framed,
    message_of,
    refusal,
)
from services.kit.http_connection import patient_for
from services.kit.listen import listen
from services.kit.rpc import Call, Table

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

# A connection belongs to the gateway, which closes it first (HTTP_IDLE_BRIDGE in gateway/clusters.py): so no call can
# meet a connection that is just being closed from this side.
_KEEP_ALIVE_SECONDS = 3600
_NO_BODY: Event = {"type": "http.response.body", "body": b""}


class AsgiFront:
    """An HTTP/1.1 server on `address` (host:port or unix:PATH) that answers the gateway's bridge from `table`."""

    def __init__(self, table: Table, address: str, max_message_bytes: int, arrivals: Arrivals | None = None) -> None:
        arrivals = arrivals or Arrivals()
        self._address = address
        self._state = ServerState()
        self._config = uvicorn.Config(
            App(table, max_message_bytes, arrivals),
            interface="asgi3",
            http=patient_for(arrivals.seconds),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            date_header=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken. A socket that a killed process left behind is replaced."""
        self._config.load()
        self._server = await listen(self._address, self._connection)

    async def stop(self, seconds: float) -> None:
        """Refuse new connections, close idle ones, give the calls under way `seconds` to finish."""
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            _, unfinished = await asyncio.wait(self._state.tasks, timeout=seconds)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    def _connection(self) -> asyncio.Protocol:
        protocol: Any = self._config.http_protocol_class
        connection: asyncio.Protocol = protocol(config=self._config, server_state=self._state, app_state={})
        return connection


class App:
    """The ASGI application: one gRPC call as a POST, anything else as a probe."""

    def __init__(self, table: Table, max_message_bytes: int, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._table = table
        self._max_message_bytes = max_message_bytes

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one request; a failure is an answer too, so nothing is raised."""
        if scope["method"] != "POST":
            await _send(send, [(b"content-type", b"text/plain"), (b"content-length", b"2")], b"ok")
            return
        metadata = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        call = Call(metadata=metadata, deadline=deadline(metadata, asyncio.get_running_loop().time()))
        body = _Body(self._arrivals, (scope.get("client"), metadata.get(CONNECTION, "")))
        with suppress(ConnectionError), body:  # nobody is left to answer
            try:
                message = await self._message(receive, metadata, body)
                reply = await self._table.serve(scope["path"], message, call)
            except ServiceError as error:
                await _send(send, _refused(error), b"")
            except asyncio.CancelledError:  # by `stop`
                await _send(send, _refused(Unavailable("the service is ending")), b"")
            else:
                frame = framed(reply)
                await _send(send, [CONTENT_TYPE, (b"content-length", b"%d" % len(frame))], frame)

    async def _message(self, receive: Receive, metadata: MutableMapping[str, str], body: "_Body") -> bytes:
        """Read the one message of a call, as far as it is not too large; raises ConnectionError when it breaks off."""
        # What is longer than the largest message is refused by what it begins with.
        while body.more and len(body.bytes) <= FRAME_HEAD + self._max_message_bytes:
            await body.read(receive)
            if len(body.bytes) >= FRAME_HEAD and announced(body.bytes) > self._max_message_bytes:
                break
        return message_of(body.bytes, metadata, self._max_message_bytes)


class _Body:
    """The body of a request as it arrives; what arrives in pieces is held for `peer` until the block's end."""

    def __init__(self, arrivals: Arrivals, peer: Hashable) -> None:
        self._arrivals = arrivals
        self._peer = peer
        self._held = 0
        self._until = asyncio.get_running_loop().time() + AS_A_WHOLE * arrivals.seconds
        self.bytes = bytearray()
        self.more = True

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._arrivals.shares.give(self._peer, self._held)

    async def read(self, receive: Receive) -> None:
        """Read on; raises ConnectionError when the body breaks off, DeadlineExceeded, ResourceExhausted."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + self._arrivals.seconds, self._until)):
                event = await receive()
        except TimeoutError:
            raise DeadlineExceeded(TOO_SLOW) from None
        if event["type"] == "http.disconnect":
            raise ConnectionError
        piece, self.more = event["body"], event["more_body"]
        self.bytes += piece
        if self.more:
            if not self._arrivals.shares.take(self._peer, len(piece)):
                raise ResourceExhausted(TOO_MUCH)
            self._held += len(piece)


async def _send(send: Send, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body} if body else _NO_BODY)


def _refused(error: ServiceError) -> list[tuple[bytes, bytes]]:
    return [*refusal(error), (b"content-length", b"0")]
