"""What users of an unchanged flytekit do with executions beside waiting for them."""

import pytest
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
    """An execution of the first example that has succeeded."""
    done = await clients.register(sandbox, EXAMPLE, "--version", "handled", "report.py")
    assert done.returncode == 0, done.stdout + done.stderr
    name: str = await clients.told(sandbox, "session.py", "launch", "report.report", "handled")
    await play(admin, sandbox.objects_url, name, REPORT_TASKS)
    return name


async def test_an_execution_is_launched_again_recovered_and_ended(
    ended: str, sandbox: Sandbox, admin: AdminServiceStub
) -> None:
    names = await clients.told(sandbox, "handled.py", "again", ended)
    assert names["named"] == f"{ended}-again"
    for name in (names["relaunched"], names["recovered"]):
        await play(admin, sandbox.objects_url, name, REPORT_TASKS)
        told = await clients.told(sandbox, "session.py", "read", name)
        assert (told["phase"], told["outputs"]) == (SUCCEEDED, {"total": 9, "text": "9 apples"})
    told = await clients.told(sandbox, "handled.py", "terminate", names["named"], "not — nötig")
    assert told == {"phase": ABORTING, "cause": "not — nötig"}
    recent = await clients.told(sandbox, "handled.py", "recent")
    assert {ended, *names.values()} <= set(recent)


async def test_outputs_are_read_by_their_urls(ended: str, sandbox: Sandbox) -> None:
    told = await clients.told(sandbox, "handled.py", "data", ended)
    assert told == {"outputs": 9, "attempt": 9, "single": 9}


async def test_gates_are_listed_approved_answered_and_rejected(ended: str, sandbox: Sandbox) -> None:
    execution = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=ended)
    async with sandbox.channel() as channel:
        engine = SignalServiceStub(channel)
        for signal, simple in (("go", SimpleType.BOOLEAN), ("how many", SimpleType.INTEGER)):
            identifier = SignalIdentifier(signal_id=signal, execution_id=execution)
            await engine.GetOrCreateSignal(SignalGetOrCreateRequest(id=identifier, type=LiteralType(simple=simple)))
    told = await clients.told(sandbox, "handled.py", "signals", ended)
    assert told["before"] == {"go": None, "how many": None}
    assert told["after"] == {"go": {"boolean": True}, "how many": {"integer": "7"}}
    assert told["rejected"] == {"boolean": False}


async def test_a_single_task_is_launched_by_a_name_of_its_own(
    ended: str, sandbox: Sandbox, admin: AdminServiceStub
) -> None:
    assert ended
    name = await clients.told(sandbox, "handled.py", "task", "report.double", "handled")
    assert name == "handled-task"
    await play(admin, sandbox.objects_url, name, REPORT_TASKS)
    told = await clients.told(sandbox, "session.py", "read", name)
    assert (told["phase"], told["outputs"]) == (SUCCEEDED, {"o0": 8})
