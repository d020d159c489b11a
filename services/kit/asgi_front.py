"""The front behind the bridge: the same table of methods over HTTP/1.1, for Envoy's `grpc_http1_reverse_bridge`.

A gRPC call costs grpcio's server several times the CPU that it costs uvicorn (docs/decisions/0007-two-fronts.md). The
bridge hands over the call as it came, one framed message in the body of a POST, and makes the trailers of a success. A
failure is answered without a body and with gRPC's own words in the headers, which to every gRPC client is a
"Trailers-Only" answer: code, message and details arrive, and the gateway's retries see them, without any script.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from services.kit.errors import ServiceError, Unavailable
from services.kit.grpc_http import CONTENT_TYPE, FRAME_HEAD, announced, deadline, framed, message_of, refusal
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

    def __init__(self, table: Table, address: str, max_message_bytes: int) -> None:
        self._address = address
        self._state = ServerState()
        self._config = uvicorn.Config(
            App(table, max_message_bytes),
            interface="asgi3",
            http="httptools",
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

    def __init__(self, table: Table, max_message_bytes: int) -> None:
        self._table = table
        self._max_message_bytes = max_message_bytes

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one request; a failure is an answer too, so nothing is raised."""
        if scope["method"] != "POST":
            await _send(send, [(b"content-type", b"text/plain"), (b"content-length", b"2")], b"ok")
            return
        metadata = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        call = Call(metadata=metadata, deadline=deadline(metadata))
        with suppress(ConnectionError):  # nobody is left to answer
            try:
                message = await self._message(receive, metadata)
                reply = await self._table.serve(scope["path"], message, call)
            except ServiceError as error:
                await _send(send, _refused(error), b"")
            except asyncio.CancelledError:  # by `stop`
                await _send(send, _refused(Unavailable("the service is ending")), b"")
            else:
                frame = framed(reply)
                await _send(send, [CONTENT_TYPE, (b"content-length", b"%d" % len(frame))], frame)

    async def _message(self, receive: Receive, metadata: MutableMapping[str, str]) -> bytes:
        """Read the one message of a call, as far as it is not too large; raises ConnectionError when it breaks off."""
        body = bytearray()
        more = True
        # What is longer than the largest message is refused by what it begins with.
        while more and len(body) <= FRAME_HEAD + self._max_message_bytes:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise ConnectionError
            body += event["body"]
            more = event["more_body"]
            if len(body) >= FRAME_HEAD and announced(body) > self._max_message_bytes:
                break
        return message_of(body, metadata, self._max_message_bytes)


async def _send(send: Send, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body} if body else _NO_BODY)


def _refused(error: ServiceError) -> list[tuple[bytes, bytes]]:
    return [*refusal(error), (b"content-length", b"0")]
