"""A run that cannot be prepared ends its execution; one that a passing error interrupts goes on."""

import asyncio
import errno
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier

from deploy.sandbox.engine import runs as runs_module
from deploy.sandbox.engine.failures import failure_of, passes
from deploy.sandbox.engine.run import Run
from deploy.sandbox.engine.runs import Ends, RunFolder, RunKey, Runs
from services.contracts.engine import EngineInputs, RunRequest
from services.kit.errors import NotFound, Unavailable

EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="e")


def request() -> RunRequest:
    inputs = EngineInputs(TaskResourceAttributes())
    return RunRequest(
        EXECUTION, Identifier(name="w"), ExecutionSpec(), WorkflowExecutionConfig(), "uri", inputs, datetime.now(UTC)
    )


class Engine:
    """Runs whose preparation raises `errors`, one after the other."""

    def __init__(self, folder: Path, *errors: Exception) -> None:
        self.errors = list(errors)
        self.reported: list[tuple[WorkflowExecution.Phase, ExecutionError]] = []
        self.ends = Ends()
        self.runs = Runs(
            folder,
            make=self.make,
            cause_of=self.cause_of,
            report_end=self.report_end,
            released=lambda _: None,
            ends=self.ends,
        )

    async def make(self, _request: RunRequest, _folder: RunFolder) -> Run:
        raise self.errors.pop(0)

    async def cause_of(self, _execution: WorkflowExecutionIdentifier) -> str:
        return "enough"

    async def report_end(
        self, _execution: WorkflowExecutionIdentifier, phase: WorkflowExecution.Phase, error: ExecutionError
    ) -> None:
        self.reported.append((phase, error))

    async def play(self) -> None:
        ended = self.ends.of(EXECUTION)
        self.runs.run(request())
        async with asyncio.timeout(60):
            await ended.wait()


async def test_run_that_cannot_be_prepared_fails_its_execution(tmp_path: Path) -> None:
    engine = Engine(tmp_path, KeyError("n0"))
    await engine.play()
    assert [phase for phase, _ in engine.reported] == [WorkflowExecution.FAILED]
    error = engine.reported[0][1]
    assert (error.code, error.kind) == ("EngineFailed", ExecutionError.SYSTEM)
    assert error.message.startswith("the engine cannot run this execution, by a fault of its own;")
    assert not engine.runs.has(EXECUTION)
    engine.runs.resume()
    assert engine.runs.active == {}


async def test_run_goes_on_after_errors_that_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "_AGAIN_SECONDS", 0.0)
    engine = Engine(tmp_path, OSError(errno.ENOSPC, "full"), Unavailable("away"), NotFound("no inputs"))
    await engine.play()
    assert [error.message for _, error in engine.reported] == ["the execution cannot go on: no inputs"]


async def test_terminated_run_that_fails_is_aborted(tmp_path: Path) -> None:
    engine = Engine(tmp_path, ValueError("wrong"))
    ended = engine.ends.of(EXECUTION)
    engine.runs.run(request())
    engine.runs.active[RunKey.of(EXECUTION)].cause = "enough"
    async with asyncio.timeout(60):
        await ended.wait()
    assert [phase for phase, _ in engine.reported] == [WorkflowExecution.ABORTED]


def refused(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "no such workflow", "")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.ENAMETOOLONG, "long"), False),
        (Unavailable("away"), True),
        (refused(grpc.StatusCode.UNAVAILABLE), True),
        (refused(grpc.StatusCode.NOT_FOUND), False),
        (NotFound("gone"), False),
        (KeyError("n0"), False),
    ],
)
def test_errors_that_pass_are_those_of_parts_that_are_away(error: Exception, expected: bool) -> None:
    assert passes(error) is expected


def test_refused_call_reads_as_a_sentence() -> None:
    error = failure_of(refused(grpc.StatusCode.NOT_FOUND))
    assert error.message == "the control plane refuses what the execution needs: no such workflow (NOT_FOUND)"
