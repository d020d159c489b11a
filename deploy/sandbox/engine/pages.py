"""What the engine shows over HTTP: logs of attempts as plain text, and the runs as JSON.

A log is sent as it grows, until its attempt has ended; with `?follow=false` as it is now.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from socket import gethostname
from typing import Any
from urllib.parse import quote

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from deploy.sandbox.engine.graph.interface import StartTask
from deploy.sandbox.engine.run_parts import Progress
from deploy.sandbox.engine.runs import RunKey, Runs
from deploy.sandbox.engine.tasks.folders import AttemptFolder, attempt_name, path_part

_LOGS = "/logs"
_PIECE_BYTES = 64 * 1024
_POLL_SECONDS = 0.2
# Browsers would otherwise wait for more text to find out its type.
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def log_url(base: str, execution: WorkflowExecutionIdentifier, start: StartTask) -> str:
    """Return the address of an attempt's log below the engine's own address."""
    parts = (execution.project, execution.domain, execution.name, start.key.node_id, attempt_name(start.key))
    return f"{base}{_LOGS}/{'/'.join(quote(part, safe='') for part in parts)}"


_HOSTS = ("localhost", "127.0.0.1", gethostname().lower())
_FOREIGN = PlainTextResponse("This address serves this machine only.\n", 403, headers=_HEADERS)


class Pages:
    """The pages of one engine.

    Args:
        runs: its runs.
        attempts: the folder of attempts.
        problem: returns why tasks cannot run now, empty when they can.
    """

    def __init__(self, runs: Runs, attempts: Path, problem: Callable[[], str]) -> None:
        self._runs = runs
        self._attempts = attempts
        self._problem = problem

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of the pages."""
        return [
            Route(f"{_LOGS}/{{project}}/{{domain}}/{{name}}/{{node}}/{{attempt}}", self.log),
            Route("/runs", self.list_runs),
        ]

    async def log(self, request: Request) -> Response:
        """Return the log of an attempt."""
        if not _is_local(request):
            return _FOREIGN
        path = request.path_params
        key = RunKey(path["project"], path["domain"], path["name"])
        names = (*key, path["node"], path["attempt"])
        folder = AttemptFolder(self._attempts.joinpath(*map(path_part, names)))
        if not folder.log.exists():
            return PlainTextResponse("There is no such log, or it is empty so far.\n", 404, headers=_HEADERS)
        follow = request.query_params.get("follow", "true") != "false"
        return StreamingResponse(
            self._lines(key, folder, follow=follow), media_type="text/plain; charset=utf-8", headers=_HEADERS
        )

    async def _lines(self, key: RunKey, folder: AttemptFolder, *, follow: bool) -> AsyncIterator[bytes]:
        with folder.log.open("rb") as file:
            while True:
                goes_on = follow and key in self._runs.active and folder.work.exists()
                while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                    yield piece
                if not goes_on:
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def list_runs(self, request: Request) -> Response:
        """Return the runs, those that have ended first."""
        if not _is_local(request):
            return _FOREIGN
        ended = [_as_json(key, progress) for key, progress in self._runs.ended.items()]
        active = [_as_json(key, run.progress) for key, run in self._runs.active.items()]
        return JSONResponse({"runs": [*ended, *active], "problem": self._problem()})


def _is_local(request: Request) -> bool:
    """Return whether a request names this machine: any web page could have its own host name resolve to it."""
    return request.url.hostname in _HOSTS


def _as_json(key: RunKey, progress: Progress | None) -> Mapping[str, Any]:
    shown = asdict(progress) if progress else {"ended_as": "", "tasks_running": 0, "tasks_waiting": 0, "tasks_ended": 0}
    started_at = progress.started_at.isoformat() if progress else ""
    return {**shown, "execution": "/".join(key), "started_at": started_at}
