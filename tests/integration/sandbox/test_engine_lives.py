"""Executions of the local engine are recovered, terminated, and go on where they were when everything was killed."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import psutil
import pytest
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionTerminateRequest,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.node_execution_pb2 import NodeExecutionListRequest
from flyteidl.core.execution_pb2 import NodeExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.phases import WORKFLOW_TERMINAL
from tests.support import clients
from tests.support.literals import python_values
from tests.support.sandbox import ROOT, Sandbox, running_sandbox
from tests.support.waiting import until

pytestmark = pytest.mark.long

FLOWS = ROOT / "tests" / "clients" / "engine_flows"
SCRIPT = ROOT / "tests" / "clients" / "engine_lives.py"
SECONDS = 60.0
STEPS = 19


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with (
        TemporaryDirectory(prefix="fp-lives-", ignore_cleanup_errors=True) as folder,
        running_sandbox(Path(folder) / "sandbox", engine="local", task_python=clients.CLIENTS / "python") as running,
    ):
        yield running


async def launched(sandbox: Sandbox, *arguments: str) -> WorkflowExecutionIdentifier:
    printed = await clients.output(sandbox, FLOWS, "python", SCRIPT, *arguments)
    return WorkflowExecutionIdentifier(project="flytesnacks", domain="development", name=printed.split()[-1])


class Watched:
    """Executions as clients see them; the gateway may be away for a while."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._admin = AdminServiceStub(grpc.insecure_channel(sandbox.target))

    def get(self, identifier: WorkflowExecutionIdentifier) -> Execution:
        request = WorkflowExecutionGetRequest(id=identifier)
        execution: Execution = self._admin.GetExecution(request, wait_for_ready=True, timeout=SECONDS)
        return execution

    async def end(self, identifier: WorkflowExecutionIdentifier) -> Execution:
        await until(lambda: self.get(identifier).closure.phase in WORKFLOW_TERMINAL, SECONDS)
        return self.get(identifier)

    def outputs(self, identifier: WorkflowExecutionIdentifier) -> dict[str, object]:
        data = self._admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=identifier))
        return python_values(data.full_outputs)

    def nodes(self, identifier: WorkflowExecutionIdentifier, below: str = "") -> dict[str, str]:
        request = NodeExecutionListRequest(workflow_execution_id=identifier, limit=100, unique_parent_id=below)
        listed = self._admin.ListNodeExecutions(request)
        return {each.id.node_id: NodeExecution.Phase.Name(each.closure.phase) for each in listed.node_executions}

    def child(self, identifier: WorkflowExecutionIdentifier) -> WorkflowExecutionIdentifier | None:
        listed = self._admin.ListNodeExecutions(NodeExecutionListRequest(workflow_execution_id=identifier, limit=100))
        found = [each.closure.workflow_node_metadata for each in listed.node_executions]
        return next((each.executionId for each in found if each.HasField("executionId")), None)

    def terminate(self, identifier: WorkflowExecutionIdentifier) -> None:
        self._admin.TerminateExecution(ExecutionTerminateRequest(id=identifier, cause="enough"))


@pytest.fixture
def watched(sandbox: Sandbox) -> Watched:
    return Watched(sandbox)


async def test_recovered_execution_runs_what_had_not_succeeded(
    sandbox: Sandbox, watched: Watched, tmp_path: Path
) -> None:
    notes, file = tmp_path / "notes", tmp_path / "file"
    inputs = json.dumps({"notes": str(notes), "file": str(file)})
    failed = await launched(sandbox, "launch", "recoverable_dynamic", inputs)
    assert (await watched.end(failed)).closure.phase == WorkflowExecution.FAILED
    assert notes.read_text().split() == ["10", "dynamic", "11"]
    file.touch()
    again = await launched(sandbox, "recover", failed.name)
    assert (await watched.end(again)).closure.phase == WorkflowExecution.SUCCEEDED
    assert watched.outputs(again) == {"o0": 13}
    assert notes.read_text().split() == ["10", "dynamic", "11"]
    nodes = watched.nodes(again)
    assert (nodes["n0"], nodes["n1"]) == ("RECOVERED", "SUCCEEDED")
    below = watched.nodes(again, "n1")
    assert sorted(below.values()) == ["RECOVERED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"], below


async def test_terminated_execution_ends_its_task_and_its_child(sandbox: Sandbox, watched: Watched) -> None:
    execution = await launched(sandbox, "launch", "parent", "{}")
    await until(lambda: watched.child(execution) is not None, SECONDS)
    child = watched.child(execution)
    assert child is not None
    await until(lambda: watched.nodes(child).get("n0") == "RUNNING", SECONDS)
    watched.terminate(execution)
    assert (await watched.end(execution)).closure.phase == WorkflowExecution.ABORTED
    assert (await watched.end(child)).closure.phase == WorkflowExecution.ABORTED
    assert {watched.nodes(execution)[name] for name in ("n0", "n1")} == {"ABORTED"}
    await until(lambda: not task_processes(sandbox))


def task_processes(sandbox: Sandbox) -> list[int]:
    """Return the processes whose working directory is that of an attempt of this sandbox."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "/attempts/" in process.cwd() and process.cwd().startswith(str(sandbox.folder)):
                found.append(process.pid)
    return found


def killed(sandbox: Sandbox) -> None:
    """Kill every process of a sandbox, as a machine that loses its power."""
    supervisor = psutil.Process(sandbox.supervisor)
    processes = [supervisor, *supervisor.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()  # by the number and the start of the process
    psutil.wait_procs(processes, timeout=10)


async def test_run_goes_on_after_the_death_of_the_engine_and_of_everything(
    sandbox: Sandbox, watched: Watched, tmp_path: Path
) -> None:
    file = tmp_path / "steps"

    def written(lines: int) -> Callable[[], bool]:
        return lambda: file.exists() and len(file.read_text().split()) >= lines

    execution = await launched(sandbox, "launch", "long", json.dumps({"file": str(file)}))
    await until(written(3), SECONDS)
    sandbox.kill("engine")
    await until(written(8), SECONDS)
    killed(sandbox)
    assert sandbox.run("up").returncode == 0
    await until(written(13), SECONDS)
    sandbox.kill("engine")
    assert (await watched.end(execution)).closure.phase == WorkflowExecution.SUCCEEDED
    assert watched.outputs(execution) == {"o0": STEPS}
    ran = [int(line) for line in file.read_text().split()]
    assert sorted(set(ran)) == list(range(STEPS))
    # A step that was under way may have written its line when it was killed; its attempt had not succeeded.
    assert len(ran) <= STEPS + 3
