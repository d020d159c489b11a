"""The HTTP server of a process: probes, metrics and the routes of the service (signed uploads and downloads)."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.process.http_connection import connection_with_timeout
from services.kit.process.settings import DEFAULT_REQUEST_IDLE_SECONDS
from services.kit.rpc.fairness import CONNECTION_HEADER, TOTAL_TIME_FACTOR, FairBudget

# Concurrent requests except probes: those that write, and those that read. Each needs a connection and maybe a file,
# and open files of a process are limited.
MOST_UPLOADS = 250
MOST_DOWNLOADS = 250
# With refusals for a lack of capacity: some clients try again then.
RETRY_SOON = {"Retry-After": "1"}
# As slow as a request may be on average, once its time without any bytes has passed: slower ones only take its place.
_LEAST_BYTES_PER_SECOND = 16 * 1024
_PROBES = frozenset(("/healthz", "/readyz", "/metrics"))
_READS = frozenset(("GET", "HEAD"))


class HttpServer:
    """An HTTP server.

    Args:
        address: host:port.
        ready: returns why the process cannot serve now, empty when it can.
        routes: routes in addition to the probes.
        idle_seconds: a request is aborted when nothing of it arrives for this long. With its response it may take
            `TOTAL_TIME_FACTOR` times as long, and longer by what its bytes take at 16 KiB/s.
    """

    def __init__(
        self,
        address: str,
        ready: Callable[[], Awaitable[str]],
        routes: Sequence[BaseRoute] = (),
        idle_seconds: float = DEFAULT_REQUEST_IDLE_SECONDS,
    ) -> None:
        host, _, port = address.rpartition(":")
        self._ready = ready
        probes = [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
        ]
        app = Starlette(routes=[*probes, *routes])
        app.router.redirect_slashes = False  # no path is meant by another one
        config = uvicorn.Config(
            _LimitRequests(_LimitTime(app, idle_seconds)),
            host=host,
            port=int(port),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            date_header=False,  # Envoy sets both for clients
            server_header=False,
            http=connection_with_timeout(idle_seconds),
        )
        self.server = _Server(config)

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self.server.serve()

    def stop(self, seconds: float) -> None:
        """End `serve`; requests under way, such as slow downloads, have `seconds` to finish."""
        self.server.config.timeout_graceful_shutdown = max(math.ceil(seconds), 0)
        self.server.stop()

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _: Request) -> Response:
        problems = await self._ready()
        return PlainTextResponse(
            f"not ready: {problems}" if problems else "ready", status_code=503 if problems else 200
        )

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _LimitRequests:
    """An ASGI application with limits of concurrent requests except probes, shared by client connections.

    Uploads and downloads have a limit each, so that neither blocks the other.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._downloads = FairBudget(MOST_DOWNLOADS)
        self._uploads = FairBudget(MOST_UPLOADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it at once."""
        if scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        connection = Headers(scope=scope).get(CONNECTION_HEADER) or scope["client"]
        budget = self._downloads if scope["method"] in _READS else self._uploads
        if not budget.acquire(connection, 1):
            # Otherwise the rest of the body would be parsed as another request.
            headers = {"connection": "close", **RETRY_SOON}
            refused = PlainTextResponse("too many requests at a time", 503, headers)
            await refused(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            budget.release(connection, 1)


class _LimitTime:
    """An ASGI application that receives a disconnect when a request rests before it is complete, or is too slow."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        more, timed_out = True, False
        clock = asyncio.get_running_loop().time
        end = clock() + TOTAL_TIME_FACTOR * self._seconds

        async def receive_in_time() -> Message:
            nonlocal more, timed_out, end
            while True:
                try:
                    # After the body only the end of the connection can arrive, while `end` moves with the response.
                    async with asyncio.timeout_at(min(end, clock() + self._seconds) if more else end):
                        message = await receive()
                except TimeoutError:
                    if not more and clock() < end:
                        continue
                    message, timed_out = {"type": "http.disconnect"}, True
                break
            end += len(message.get("body", b"")) / _LEAST_BYTES_PER_SECOND
            more = message.get("more_body", False)
            return message

        async def send_response(message: Message) -> None:
            nonlocal end
            end += len(message.get("body", b"")) / _LEAST_BYTES_PER_SECOND
            if timed_out and message["type"] == "http.response.start":
                # Otherwise the rest of the body would be parsed as another request.
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive_in_time, send_response)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, as `service` handles signals, and without its clock.

    uvicorn wakes up ten times a second to see whether it should end; that was a tenth of the CPU of an idle process.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `serve`; a server that has not started yet ends at its start."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Wait for `stop`."""
        await self._stopping.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield
