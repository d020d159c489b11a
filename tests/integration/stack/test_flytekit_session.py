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
    """The example project, registered; answers how many Create calls that took."""
    before = len(clients.create_codes(sandbox))
    assert "Successfully registered 6 entities" in await register(sandbox)
    answers = clients.create_codes(sandbox)[before:]
    assert answers == ["OK"] * 6
    return before + len(answers)


async def test_registering_again_says_that_all_of_it_exists(sandbox: Sandbox, registered: int) -> None:
    assert "Successfully registered 6 entities" in await register(sandbox)
    assert set(clients.create_codes(sandbox)[registered:]) == {"ALREADY_EXISTS"}


async def test_the_code_was_uploaded_through_the_signed_url(sandbox: Sandbox, registered: int) -> None:
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
async def test_an_execution_is_launched_run_and_read_back(
    plan: str,
    inputs: tuple[str, ...],
    outputs: dict[str, object],
    sandbox: Sandbox,
    admin: AdminServiceStub,
) -> None:
    name = await clients.script_result(sandbox, "session.py", "launch", plan, "first", *inputs)
    await play(admin, sandbox.objects_url, name, REPORT_TASKS)
    told = await clients.script_result(sandbox, "session.py", "read", name)
    assert told["phase"] == SUCCEEDED
    assert told["outputs"] == outputs
    assert set(told["nodes"]) == {"start-node", "n0", "n1", "n2", "end-node"}
    assert {node["phase"] for node in told["nodes"].values()} == {NODE_SUCCEEDED}
    assert [told["nodes"][node]["tasks"] for node in ("n0", "n1", "n2")] == [[TASK_SUCCEEDED]] * 3
    assert told["nodes"]["n1"]["outputs"] == {"o0": outputs["total"]}
