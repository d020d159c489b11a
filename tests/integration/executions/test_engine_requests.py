"""Calls to an engine that is another process arrive there, and its responses come back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier

from deploy.sandbox.engine.consumers import EngineRequests
from deploy.sandbox.engine.run import Run
from deploy.sandbox.engine.runs import Ends, RunFolder, Runs
from services.contracts.engine import EngineInputs, RunRequest
from services.executions.engine.requests import RequestedEngine
from services.executions.rules.placements import Placement
from services.kit.messaging.bus import Bus
from tests.support.parts import Parts
from tests.support.waiting import until


def execution(name: str) -> WorkflowExecutionIdentifier:
    return WorkflowExecutionIdentifier(project="p", domain="d", name=name)


def placement(name: str) -> Placement:
    return Placement(execution(name), "", "", datetime(2026, 1, 2, tzinfo=UTC))


def request(name: str) -> RunRequest:
    inputs = EngineInputs(TaskResourceAttributes())
    spec, config, now = ExecutionSpec(), WorkflowExecutionConfig(), datetime.now(UTC)
    return RunRequest(execution(name), Identifier(name="w"), spec, config, "uri", inputs, now)


class Preparations:
    """Runs that stay in preparation, as while the control plane is away."""

    def __init__(self) -> None:
        self.begun: list[RunRequest] = []

    async def make(self, request: RunRequest, _folder: RunFolder) -> Run:
        self.begun.append(request)
        await asyncio.Event().wait()
        raise AssertionError

    async def report_end(
        self, _execution: WorkflowExecutionIdentifier, _phase: WorkflowExecution.Phase, _error: ExecutionError
    ) -> None:
        raise AssertionError("no run fails")

    async def cause_of(self, _execution: WorkflowExecutionIdentifier) -> str:
        return "enough"


@pytest.fixture
def preparations() -> Preparations:
    return Preparations()


def runs_in(folder: Path, preparations: Preparations) -> Runs:
    return Runs(
        folder,
        make=preparations.make,
        cause_of=preparations.cause_of,
        report_end=preparations.report_end,
        released=lambda _execution: None,
        ends=Ends(),
    )


@pytest.fixture
async def runs(tmp_path: Path, preparations: Preparations) -> AsyncIterator[Runs]:
    made = runs_in(tmp_path, preparations)
    yield made
    await made.close()


@pytest.fixture
async def engine(parts: Parts, runs: Runs) -> AsyncIterator[RequestedEngine]:
    here, there = await Bus.connect(parts.nats_url, "executions"), await Bus.connect(parts.nats_url, "engine")
    await EngineRequests(runs).listen(there)
    yield RequestedEngine(here)
    for bus in (here, there):
        await bus.close()


async def test_execution_is_run_once_and_is_not_missing(
    engine: RequestedEngine, runs: Runs, preparations: Preparations
) -> None:
    sent = request("a")
    await engine.run(sent)
    await engine.run(sent)
    await until(lambda: preparations.begun == [sent])
    assert await engine.missing([placement("a"), placement("b")]) == [placement("b")]
    assert runs.has(execution("a"))


async def test_stopped_execution_is_terminated_and_an_unknown_one_is_reported(
    engine: RequestedEngine, runs: Runs
) -> None:
    await engine.run(request("a"))
    assert await engine.stop(placement("a"))
    assert not await engine.stop(placement("b"))
    (active,) = runs.active.values()
    assert active.cause == active.folder.stop.read_text() == "enough"


async def test_accepted_runs_go_on_after_a_restart(
    engine: RequestedEngine, runs: Runs, tmp_path: Path, preparations: Preparations
) -> None:
    await engine.run(request("a"))
    await engine.run(request("b"))
    await engine.stop(placement("b"))
    await runs.close()
    preparations.begun.clear()
    again = runs_in(tmp_path, preparations)
    again.resume()
    await until(lambda: [each.id.name for each in preparations.begun] == ["a", "b"])
    assert [active.cause for active in again.active.values()] == ["", "enough"]
    await again.close()
