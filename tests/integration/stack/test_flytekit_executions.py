"""Calls of an unchanged flytekit about executions, except waiting for them."""

import asyncio
from pathlib import Path

import pytest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetRequest
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest
from flyteidl.core.identifier_pb2 import SignalIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.signal_pb2_grpc import SignalServiceStub

from tests.support import clients
from tests.support.entities import DOMAIN, PROJECT
from tests.support.play import REPORT_TASKS, play
from tests.support.sandbox import Sandbox

EXAMPLE = clients.EXAMPLES / "first_session"
SUCCEEDED, ABORTING = 4, 9


@pytest.fixture(scope="module")
async def ended(sandbox: Sandbox, admin: AdminServiceStub) -> str:
    """Return an execution of the first example that has succeeded."""
    done = await clients.register(sandbox, EXAMPLE, "--version", "handled", "report.py")
    assert done.returncode == 0, done.stdout + done.stderr
    name: str = await clients.script_result(sandbox, "session.py", "launch", "report.report", "handled")
    await play(admin, sandbox.objects_url, name, REPORT_TASKS)
    return name


async def lose_outputs(admin: AdminServiceStub, name: str) -> None:
    """Delete the outputs of an execution from the object store; their URIs stay stored."""
    execution = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    closure = (await admin.GetExecution(WorkflowExecutionGetRequest(id=execution))).closure
    await asyncio.to_thread(Path(closure.outputs.uri.removeprefix("file://")).unlink)


async def test_executions_are_relaunched_recovered_and_terminated_and_single_tasks_launched(
    ended: str, sandbox: Sandbox, admin: AdminServiceStub
) -> None:
    names = await clients.script_result(sandbox, "handled.py", "again", ended, "handled")
    own = {"named": f"{ended}-again", "task": f"{ended}-task", "workflow": f"{ended}-workflow"}
    assert {kind: names[kind] for kind in own} == own
    others = [names[kind] for kind in ("relaunched", "recovered", "task", "workflow")]
    for name in others:
        await play(admin, sandbox.objects_url, name, REPORT_TASKS)
    await lose_outputs(admin, names["recovered"])
    result = await clients.script_result(sandbox, "handled.py", "ended", names["named"], "not — nötig", *others)
    assert (result["phase"], result["cause"]) == (ABORTING, "not — nötig")
    report = {"phase": SUCCEEDED, "outputs": {"total": 9, "text": "9 apples"}}
    alone = {"phase": SUCCEEDED, "outputs": {"o0": 8}}
    other = {"phase": SUCCEEDED, "outputs": {"total": 15, "text": "15 pears"}}
    lost = {"phase": SUCCEEDED, "outputs": {}}
    assert result["others"] == dict(zip(others, (report, lost, alone, other), strict=True))
    assert {ended, *names.values()} <= set(result["recent"])


async def test_outputs_are_read_by_their_urls_and_signals_set(ended: str, sandbox: Sandbox) -> None:
    execution = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=ended)
    async with sandbox.channel() as channel:
        engine = SignalServiceStub(channel)
        for signal, simple in (("go", SimpleType.BOOLEAN), ("how many", SimpleType.INTEGER)):
            identifier = SignalIdentifier(signal_id=signal, execution_id=execution)
            await engine.GetOrCreateSignal(SignalGetOrCreateRequest(id=identifier, type=LiteralType(simple=simple)))
    result = await clients.script_result(sandbox, "handled.py", "inside", ended)
    assert (result["outputs"], result["attempt"], result["single"]) == (9, 9, 9)
    assert result["before"] == {"go": None, "how many": None}
    assert result["after"] == {"go": {"boolean": True}, "how many": {"integer": "7"}}
    assert result["rejected"] == {"boolean": False}


async def test_files_are_downloaded_as_they_were_uploaded(sandbox: Sandbox, tmp_path: Path) -> None:
    result = await clients.script_result(sandbox, "handled.py", "files", str(tmp_path))
    assert result["sent"] == result["signed"] == result["fetched"]
    assert "🍎" in result["sent"]
