"""The HTTP front of a process: probes and metrics, and the routes a service adds (signed uploads and downloads)."""

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

Ready = Callable[[], Awaitable[bool]]


class HttpFront:
    """An HTTP server on `address` (host:port); `ready` tells whether the process can serve now."""

    def __init__(self, address: str, ready: Ready, routes: Sequence[BaseRoute] = ()) -> None:
        host, _, port = address.rpartition(":")
        self._ready = ready
        app = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                *routes,
            ]
        )
        config = uvicorn.Config(
            app, host=host, port=int(port), log_config=None, access_log=False, lifespan="off", http="httptools"
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
        ready = await self._ready()
        return PlainTextResponse("ready" if ready else "not ready", status_code=200 if ready else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `process` decides when to end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
