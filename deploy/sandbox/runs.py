"""What the engine runs, as it reports it over HTTP: for `runs` and `status`."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from deploy.sandbox.engine_part import ENGINE_PORT
from deploy.sandbox.errors import SandboxError
from deploy.sandbox.ready import http
from deploy.sandbox.state import State

_RUNS = "/runs"


@dataclass(frozen=True)
class ListedRun:
    """A run of the engine."""

    execution: str
    started_at: str
    """ISO 8601; empty while it is prepared."""
    tasks_running: int
    tasks_waiting: int
    tasks_ended: int
    ended_as: str
    """The phase in which it ended; empty while it goes on."""


def engine_runs(state: State) -> tuple[list[ListedRun], str, str]:
    """Return the runs, the newest last, why tasks cannot run now, and what tasks wait for.

    Raises:
        SandboxError: the sandbox has no engine, or it does not respond.
    """
    if ENGINE_PORT not in state.ports:
        raise SandboxError("this sandbox has no engine of its own: SANDBOX_ENGINE was not local")
    response = asyncio.run(http(state.all_ports.address(ENGINE_PORT), "GET", _RUNS))
    head, _, body = response.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise SandboxError("the engine does not respond; see `status`")
    content = json.loads(body)
    return [ListedRun(**run) for run in content["runs"]], content["problem"], content["waits"]


def run_lines(runs: Sequence[ListedRun], now: datetime | None = None) -> str:
    """Return a line for each run."""
    if not runs:
        return "Nothing has been run since the engine started."
    now = now or datetime.now(UTC)
    width = max(len(run.execution) for run in runs)
    return "\n".join(f"{run.execution:{width}}  {_progress(run, now)}" for run in runs)


def task_line(state: State) -> str:
    """Return how many tasks run and wait."""
    try:
        runs, problem, waits = engine_runs(state)
    except SandboxError as error:
        return str(error)
    running = sum(run.tasks_running for run in runs)
    waiting = sum(run.tasks_waiting for run in runs)
    going_on = sum(not run.ended_as for run in runs)
    return f"{running} running, {waiting} waiting, of {going_on} executions{_appended(problem)}{_appended(waits)}"


def _appended(text: str) -> str:
    return text and f"; {text}"


def _progress(run: ListedRun, now: datetime) -> str:
    tasks = f"{run.tasks_ended} attempts of tasks ended"
    if run.ended_as:
        return f"{run.ended_as:9}  {tasks}"
    if not run.started_at:
        return "preparing"
    seconds = int((now - datetime.fromisoformat(run.started_at)).total_seconds())
    return f"{'RUNNING':9}  {tasks}, {run.tasks_running} running, {run.tasks_waiting} waiting, for {seconds} s"
