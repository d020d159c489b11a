"""The HTTP front of a process: probes and metrics, and the routes a service adds (signed uploads and downloads)."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.http_connection import patient_for
from services.kit.settings import DEFAULT_REQUEST_IDLE_SECONDS

# Less than the files that a process may open.
_MOST_CONNECTIONS = 500
# Of these, what uploads and downloads may have, which last as long as their clients like. Without the others left free,
# probes would fail, and the process be ended for them.
_MOST_TRANSFERS = 400
_TOO_MANY = PlainTextResponse("too many uploads and downloads at a time", status_code=503)


class HttpFront:
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
            _RoomForProbes(_BreakOff(app, idle_seconds), {probe.path for probe in probes}),
            host=host,
            port=int(port),
            log_config=None,
            access_log=False,
            lifespan="off",
            http=patient_for(idle_seconds),
            limit_concurrency=_MOST_CONNECTIONS,
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


class _RoomForProbes:
    """The application, which takes a bounded number of other requests at a time."""

    def __init__(self, app: ASGIApp, probes: Container[str]) -> None:
        self._app = app
        self._probes = probes
        self._transfers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"] in self._probes:
            await self._app(scope, receive, send)
        elif self._transfers >= _MOST_TRANSFERS:
            await _TOO_MANY(scope, receive, send)
        else:
            self._transfers += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._transfers -= 1


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
