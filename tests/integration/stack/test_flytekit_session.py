"""The first session of a new user: `pyflyte register` and FlyteRemote of an unchanged flytekit."""

import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support import clients
from tests.support.play import REPORT_TASKS, play
from tests.support.sandbox import Sandbox

EXAMPLE = clients.EXAMPLES / "first_session"
SUCCEEDED, NODE_SUCCEEDED, TASK_SUCCEEDED = 4, 3, 3


async def register(sandbox: Sandbox) -> str:
    done = await clients.register(sandbox, EXAMPLE, "--version", "first", "report.py")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
async def registered(sandbox: Sandbox) -> int:
    """Register the example project; return the number of Create calls until now."""
    before = len(clients.create_codes(sandbox))
    assert "Successfully registered 6 entities" in await register(sandbox)
    codes = clients.create_codes(sandbox)[before:]
    assert codes == ["OK"] * 6
    return before + len(codes)


async def test_registering_again_returns_already_exists_for_all(sandbox: Sandbox, registered: int) -> None:
    assert "Successfully registered 6 entities" in await register(sandbox)
    assert set(clients.create_codes(sandbox)[registered:]) == {"ALREADY_EXISTS"}


async def test_code_was_uploaded_through_the_signed_url(sandbox: Sandbox, registered: int) -> None:
    assert registered
    uploaded = list((sandbox.folder / "objects").glob("uploads/flytesnacks/development/*/*.tar.gz"))
    assert uploaded
    assert all(file.stat().st_size > 0 for file in uploaded)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("plan", "inputs", "outputs"),
    [
        ("report.report", (), {"total": 9, "text": "9 apples"}),
        ("report_of_pears", ("count=5",), {"total": 15, "text": "15 pears"}),
    ],
)
async def test_execution_is_launched_run_and_read_back(
    plan: str,
    inputs: tuple[str, ...],
    outputs: dict[str, object],
    sandbox: Sandbox,
    admin: AdminServiceStub,
) -> None:
    name = await clients.script_result(sandbox, "session.py", "launch", plan, "first", *inputs)
    await play(admin, sandbox.objects_url, name, REPORT_TASKS)
    result = await clients.script_result(sandbox, "session.py", "read", name)
    assert result["phase"] == SUCCEEDED
    assert result["outputs"] == outputs
    assert set(result["nodes"]) == {"start-node", "n0", "n1", "n2", "end-node"}
    assert {node["phase"] for node in result["nodes"].values()} == {NODE_SUCCEEDED}
    assert [result["nodes"][node]["tasks"] for node in ("n0", "n1", "n2")] == [[TASK_SUCCEEDED]] * 3
    assert result["nodes"]["n1"]["outputs"] == {"o0": outputs["total"]}
