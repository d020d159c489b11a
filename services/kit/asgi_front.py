"""The second front: the same table of methods over HTTP/1.1, for Envoy's `grpc_http1_reverse_bridge`.

A gRPC call costs grpcio's server several times the CPU that it costs uvicorn (docs/decisions/0007-two-fronts.md). The
bridge hands over the call as it came, one framed message in the body of a POST, and makes the trailers of a success. A
failure is answered without a body and with gRPC's own words in the headers, which to every gRPC client is a
"Trailers-Only" answer: code, message and details arrive, and the gateway's retries see them, without any script.
"""

import asyncio
import base64
import re
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import uvicorn
from uvicorn.server import ServerState

from services.kit.errors import InvalidArgument, ResourceExhausted, ServiceError, Unavailable, Unimplemented, to_status
from services.kit.rpc import Call, Table
from services.kit.settings import UNIX

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

# A connection belongs to the gateway, which closes it first (HTTP_IDLE_BRIDGE in gateway/clusters.py): so no call can
# meet a connection that is just being closed from this side.
_KEEP_ALIVE_SECONDS = 3600
# A burst of calls is a burst of connections; what the kernel allows by default.
_BACKLOG = 4096

# A frame: a byte that says whether the message is compressed, four for its length.
_FRAME_HEAD = 5
_WINDOW_BITS = {"gzip": 31, "deflate": 15}

_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])", re.ASCII)

_GRPC = (b"content-type", b"application/grpc")
_NO_BODY: Event = {"type": "http.response.body", "body": b""}
# What may stand in a grpc-message as it is: printable ASCII without "%". A blank at either end would be lost in a
# header of HTTP/1.1.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_BLANK_AT_AN_END = re.compile(r"^ | $")


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
        loop = asyncio.get_running_loop()
        if self._address.startswith(UNIX):
            path = self._address.removeprefix(UNIX)
            self._server = await loop.create_unix_server(self._connection, path, backlog=_BACKLOG)
        else:
            host, _, port = self._address.rpartition(":")
            self._server = await loop.create_server(self._connection, host.strip("[]"), int(port), backlog=_BACKLOG)

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
        call = Call(metadata=metadata, deadline=_deadline(metadata))
        with suppress(ConnectionError):  # nobody is left to answer
            try:
                message = await self._message(receive, metadata)
                reply = await self._table.serve(scope["path"], message, call)
            except ServiceError as error:
                await _send(send, _refusal(error), b"")
            except asyncio.CancelledError:  # by `stop`
                await _send(send, _refusal(Unavailable("the service is ending")), b"")
            else:
                frame = b"\0" + len(reply).to_bytes(4, "big") + reply
                await _send(send, [_GRPC, (b"content-length", b"%d" % len(frame))], frame)

    async def _message(self, receive: Receive, metadata: MutableMapping[str, str]) -> bytes:
        """Read the one message of a call, as far as it is not too large; raises ConnectionError when it breaks off."""
        body = bytearray()
        more = True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise ConnectionError
            body += event["body"]
            more = event["more_body"]
            if len(body) >= _FRAME_HEAD:
                announced = int.from_bytes(body[1:_FRAME_HEAD], "big")
                if announced > self._max_message_bytes:
                    raise self._too_large(announced)
                if len(body) > _FRAME_HEAD + announced:
                    break
        if len(body) < _FRAME_HEAD or len(body) != _FRAME_HEAD + announced:
            raise InvalidArgument("the request is not one whole gRPC message")
        message = bytes(memoryview(body)[_FRAME_HEAD:])
        return self._inflated(message, metadata.get("grpc-encoding", "")) if body[0] else message

    def _inflated(self, message: bytes, encoding: str) -> bytes:
        if encoding not in _WINDOW_BITS:
            raise Unimplemented(f"grpc-encoding {encoding!r} is not known; there are: {', '.join(_WINDOW_BITS)}")
        inflating = zlib.decompressobj(_WINDOW_BITS[encoding])
        try:
            plain = inflating.decompress(message, self._max_message_bytes + 1)
        except zlib.error as error:
            raise InvalidArgument(f"the request is not {encoding}") from error
        if len(plain) > self._max_message_bytes:
            raise self._too_large(len(plain))
        if not inflating.eof:
            raise InvalidArgument(f"the request is not whole {encoding}")
        return plain

    def _too_large(self, size: int) -> ResourceExhausted:
        # In grpcio's words, which clients look for (clients.md).
        return ResourceExhausted(f"Received message larger than max ({size} vs. {self._max_message_bytes})")


async def _send(send: Send, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body} if body else _NO_BODY)


def _refusal(error: ServiceError) -> list[tuple[bytes, bytes]]:
    """The headers of a failure. Without a body they are all that there is, as gRPC wants it."""
    status = to_status(error)
    message = _BLANK_AT_AN_END.sub("%20", quote(status.message, safe=_PLAIN))
    headers = [
        _GRPC,
        (b"content-length", b"0"),
        (b"grpc-status", b"%d" % status.code),
        (b"grpc-message", message.encode()),
    ]
    if status.details:
        details = base64.b64encode(status.SerializeToString()).rstrip(b"=")
        headers.append((b"grpc-status-details-bin", details))
    return headers


def _deadline(metadata: MutableMapping[str, str]) -> float | None:
    """When the caller stops waiting, as the event loop's time; None when it does not say."""
    seconds = _seconds(metadata.get("grpc-timeout", ""))
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


# A client says the same all the time, or counts down in whole milliseconds.
@lru_cache(maxsize=4096)
def _seconds(timeout: str) -> float | None:
    """Length of a grpc-timeout; what is none is None, as for grpcio."""
    asked = _TIMEOUT.fullmatch(timeout)
    return int(asked[1]) * _UNIT_SECONDS[asked[2]] if asked else None
