"""The HTTP front of a process: probes and metrics, and the routes a service adds (signed uploads and downloads)."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route


class HttpFront:
    """An HTTP server on `address` (host:port); `ready` tells why the process cannot serve now, or nothing."""

    def __init__(self, address: str, ready: Callable[[], Awaitable[str]], routes: Sequence[BaseRoute] = ()) -> None:
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

    def stop(self) -> None:
        """Finish the requests under way and end `serve`."""
        self.server.should_exit = True

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _: Request) -> Response:
        wrong = await self._ready()
        return PlainTextResponse(f"not ready: {wrong}" if wrong else "ready", status_code=503 if wrong else 200)

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `process` decides when to end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
