"""What the engine shows over HTTP: logs of attempts as plain text, and the runs as JSON.

A log is sent as it grows, until its attempt has ended; with `?follow=false` as it is now.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from socket import gethostname
from typing import Any, BinaryIO
from urllib.parse import quote

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from deploy.sandbox.engine.graph.interface import StartTask
from deploy.sandbox.engine.log_files import LogFiles, NoLog
from deploy.sandbox.engine.run_parts import Progress
from deploy.sandbox.engine.runs import RunKey, Runs
from deploy.sandbox.engine.tasks.folders import attempt_name
from services.kit.process.http_server import RETRY_SOON
from services.kit.rpc.fairness import FairBudget

_LOGS = "/logs"
# What an address of a log names.
_NAMES = ("project", "domain", "name", "node", "attempt")
# A reader that pauses holds a piece, and as much as the server buffers for a connection (64 KiB).
_PIECE_BYTES = 16 * 1024
_POLL_SECONDS = 0.2
# Followers of logs at a time; those of one log leave as many free as they are. Far fewer than the server's requests
# (`MOST_DOWNLOADS`), so that other pages are served however many follow.
_MOST_FOLLOWERS = 64
# Who reads a log as it is now may take so long, and longer by a second for each so many bytes.
_LEAST_READ_SECONDS = 120.0
_LEAST_BYTES_PER_SECOND = 16 * 1024
# Browsers would otherwise wait for more text to find out its type.
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def log_url(base: str, execution: WorkflowExecutionIdentifier, start: StartTask) -> str:
    """Return the address of an attempt's log below the engine's own address."""
    parts = (execution.project, execution.domain, execution.name, start.key.node_id, attempt_name(start.key))
    return f"{base}{_LOGS}/{'/'.join(quote(part, safe='') for part in parts)}"


_HOSTS = ("localhost", "127.0.0.1", gethostname().lower())
_TOO_MANY = PlainTextResponse(
    "Too many follow logs now. Read it as it is now, with ?follow=false, or try again later.\n",
    503,
    headers=_HEADERS | RETRY_SOON,
)
_FOREIGN = PlainTextResponse("This address serves this machine only.\n", 403, headers=_HEADERS)


class Pages:
    """The pages of one engine.

    Args:
        runs: its runs.
        attempts: the folder of attempts.
        problem: returns why tasks cannot run now, empty when they can.
        waits: returns what the first task that waits waits for, empty for none.
    """

    def __init__(self, runs: Runs, attempts: Path, problem: Callable[[], str], waits: Callable[[], str]) -> None:
        self._runs = runs
        self._logs = LogFiles(attempts)
        self._followers = FairBudget(_MOST_FOLLOWERS)
        self._problem = problem
        self._waits = waits

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of the pages."""
        return [
            Route("/".join((_LOGS, *(f"{{{name}}}" for name in _NAMES))), self.log),
            Route("/runs", self.list_runs),
        ]

    async def log(self, request: Request) -> Response:
        """Return the log of an attempt."""
        if not _is_local(request):
            return _FOREIGN
        names = tuple(request.path_params[name] for name in _NAMES)
        key = RunKey(*names[:3])
        try:
            file = await asyncio.to_thread(self._logs.open, names, runs=key in self._runs.active)
        except NoLog as reason:
            return PlainTextResponse(f"{reason}\n", 404, headers=_HEADERS)
        if request.query_params.get("follow", "true") == "false" or not self._goes_on(names):
            size = os.fstat(file.fileno()).st_size
            return _LogPage(_pieces(file), file.close, _LEAST_READ_SECONDS + size / _LEAST_BYTES_PER_SECOND)
        if not self._followers.acquire(names, 1):
            file.close()
            return _TOO_MANY

        def end() -> None:
            file.close()
            self._followers.release(names, 1)

        return _LogPage(self._followed(file, names), end)

    async def _followed(self, file: BinaryIO, names: tuple[str, ...]) -> AsyncIterator[bytes]:
        """Yield a log as it grows, until its attempt has ended."""
        goes_on = True
        while goes_on:
            goes_on = self._goes_on(names)
            async for piece in _pieces(file):
                yield piece
            if goes_on:
                await asyncio.sleep(_POLL_SECONDS)

    def _goes_on(self, names: tuple[str, ...]) -> bool:
        """Return whether an attempt runs."""
        return RunKey(*names[:3]) in self._runs.active and self._logs.attempt(names).work.exists()

    async def list_runs(self, request: Request) -> Response:
        """Return the runs, those that have ended first."""
        if not _is_local(request):
            return _FOREIGN
        ended = [_as_json(key, progress) for key, progress in self._runs.ended.items()]
        active = [_as_json(key, run.progress) for key, run in self._runs.active.items()]
        return JSONResponse({"runs": [*ended, *active], "problem": self._problem(), "waits": self._waits()})


class _LogPage(StreamingResponse):
    """A log, as plain text.

    Args:
        pieces: its pieces.
        end: called once it is sent, or its reader has gone.
        seconds: the reader has so many to read all of it; None is no limit.
    """

    def __init__(self, pieces: AsyncIterator[bytes], end: Callable[[], None], seconds: float | None = None) -> None:
        super().__init__(pieces, media_type="text/plain; charset=utf-8", headers=_HEADERS)
        self._end = end
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the log."""
        try:
            with suppress(TimeoutError):  # the server closes a connection whose response is not complete
                async with asyncio.timeout(self._seconds):
                    await super().__call__(scope, receive, send)
        finally:
            self._end()


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece


def _is_local(request: Request) -> bool:
    """Return whether a request names this machine: any web page could have its own host name resolve to it."""
    return request.url.hostname in _HOSTS


def _as_json(key: RunKey, progress: Progress | None) -> Mapping[str, Any]:
    shown = asdict(progress) if progress else {"ended_as": "", "tasks_running": 0, "tasks_waiting": 0, "tasks_ended": 0}
    started_at = progress.started_at.isoformat() if progress else ""
    return {**shown, "execution": "/".join(key), "started_at": started_at}
