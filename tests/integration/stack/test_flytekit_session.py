"""The first session of a new user: `pyflyte register` and FlyteRemote of an unchanged flytekit."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.play import REPORT_TASKS, play
from tests.support.sandbox import ROOT, Sandbox

# flytekit lives in an environment of its own, made by `make test`: its dependencies are no business of the services.
CLIENTS = ROOT / ".venv-client" / "bin"
EXAMPLE = ROOT / "examples" / "first_session"
SUCCEEDED, NODE_SUCCEEDED, TASK_SUCCEEDED = 4, 3, 3


async def client(sandbox: Sandbox, *command: str | Path) -> str:
    environment = {**os.environ, "FLYTECTL_CONFIG": str(sandbox.client_config), "PYTHONWARNINGS": "ignore"}
    done = await asyncio.to_thread(
        subprocess.run,
        [CLIENTS / command[0], *command[1:]],
        cwd=EXAMPLE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def register(sandbox: Sandbox) -> str:
    return await client(
        sandbox, "pyflyte", "register", "-p", "flytesnacks", "-d", "development", "--version", "first", "report.py"
    )


def codes(sandbox: Sandbox) -> list[str]:
    """Codes of the registry's answers to Create calls until now."""
    lines = (sandbox.folder / "logs" / "registry.log").read_text().splitlines()
    calls = [line for line in map(json.loads, lines) if line["message"] == "call" and "/Create" in line["method"]]
    return [call["code"] for call in calls]


@pytest.fixture(scope="module")
async def registered(sandbox: Sandbox) -> int:
    """The example project, registered; answers how many Create calls that took."""
    before = len(codes(sandbox))
    assert "Successfully registered 6 entities" in await register(sandbox)
    answers = codes(sandbox)[before:]
    assert answers == ["OK"] * 6
    return before + len(answers)


async def test_registering_again_says_that_all_of_it_exists(sandbox: Sandbox, registered: int) -> None:
    assert "Successfully registered 6 entities" in await register(sandbox)
    assert set(codes(sandbox)[registered:]) == {"ALREADY_EXISTS"}


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
    session = ROOT / "tests" / "clients" / "session.py"
    name = (await client(sandbox, "python", session, "launch", plan, "first", *inputs)).strip()
    await play(admin, sandbox.objects_url, name, REPORT_TASKS)
    told = json.loads(await client(sandbox, "python", session, "read", name))
    assert told["phase"] == SUCCEEDED
    assert told["outputs"] == outputs
    assert set(told["nodes"]) == {"start-node", "n0", "n1", "n2", "end-node"}
    assert {node["phase"] for node in told["nodes"].values()} == {NODE_SUCCEEDED}
    assert [told["nodes"][node]["tasks"] for node in ("n0", "n1", "n2")] == [[TASK_SUCCEEDED]] * 3
    assert told["nodes"]["n1"]["outputs"] == {"o0": outputs["total"]}
