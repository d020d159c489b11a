"""The HTTP front of a process: probes and metrics, and the routes a service adds (signed uploads and downloads)."""

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

from services.kit.process.http_connection import patient_for
from services.kit.process.settings import DEFAULT_REQUEST_IDLE_SECONDS
from services.kit.rpc.fairness import CONNECTION, FairBudget

# Requests at a time that are no probes. Each holds a connection and maybe a file, of which a process may open so many.
_MOST_REQUESTS = 500
_PROBES = frozenset(("/healthz", "/readyz", "/metrics"))


class HttpServer:
    """An HTTP server on `address` (host:port); `ready` tells why the process cannot serve now, or nothing.

    A request of which nothing more arrives for `idle_seconds` has broken off.
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
        config = uvicorn.Config(
            _Bounded(_BreakOff(app, idle_seconds), _MOST_REQUESTS),
            host=host,
            port=int(port),
            log_config=None,
            access_log=False,
            lifespan="off",
            http=patient_for(idle_seconds),
        )
        self.server = _Server(config)

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self.server.serve()

    def stop(self, seconds: float) -> None:
        """End `serve`; requests under way have `seconds` to finish, which a slow reader of a download may not."""
        self.server.config.timeout_graceful_shutdown = max(math.ceil(seconds), 0)
        self.server.should_exit = True

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _: Request) -> Response:
        wrong = await self._ready()
        return PlainTextResponse(f"not ready: {wrong}" if wrong else "ready", status_code=503 if wrong else 200)

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _Bounded:
    """The application, which serves `most` requests at a time that are no probes, shared among clients' connections."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._shares = FairBudget(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it at once."""
        if scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        peer = Headers(scope=scope).get(CONNECTION) or scope["client"]
        if not self._shares.take(peer, 1):
            # What comes of a body would be taken for another request.
            refused = PlainTextResponse("too many requests at a time", 503, {"connection": "close"})
            await refused(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._shares.give(peer, 1)


class _BreakOff:
    """The application, for which a body that rests too long has broken off."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        more, broken = True, False

        async def received() -> Message:
            nonlocal more, broken
            try:
                # Behind the body nothing comes but the end of the connection.
                async with asyncio.timeout(self._seconds if more else None):
                    message = await receive()
            except TimeoutError:
                message, broken = {"type": "http.disconnect"}, True
            more = message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            if broken and message["type"] == "http.response.start":
                # What is left of the body would be taken for another request.
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, received, sent)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `process` decides when to end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
