"""The local engine runs what a user launches: outputs, errors, logs, and what is listed."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from flyteidl.core.literals_pb2 import KeyValuePair
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.integration.stack import launched
from tests.support import clients, entities
from tests.support.sandbox import ROOT, Sandbox, running_sandbox
from tests.support.waiting import until

FLOWS = ROOT / "tests" / "clients" / "engine_flows"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with (
        TemporaryDirectory(prefix="fp-engine-", ignore_cleanup_errors=True) as folder,
        running_sandbox(Path(folder) / "sandbox", engine="local", task_python=clients.CLIENTS / "python") as running,
    ):
        yield running


async def pyflyte_run(sandbox: Sandbox, *arguments: str, fails: bool = False) -> str:
    """Launch a workflow and wait for its end, which decides the exit code; return the name of the execution."""
    command = ("pyflyte", "run", "--remote", "--wait", "--poll-interval", "1", *arguments)
    done = await clients.run(sandbox, FLOWS, *command)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    found = re.search(r"/executions/(\w+)", done.stdout)
    assert found is not None
    return found[1]


async def get(sandbox: Sandbox, path: str) -> Any:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{sandbox.url}/api/v1/{path}")).json()


async def test_launched_workflow_ends_with_its_outputs(sandbox: Sandbox) -> None:
    name = await pyflyte_run(sandbox, "basics.py", "chain", "--n", "5")
    outputs = await get(sandbox, f"data/executions/flytesnacks/development/{name}")
    total, text = (outputs["fullOutputs"]["literals"][key]["scalar"]["primitive"] for key in ("total", "text"))
    assert (total, text) == ({"integer": "20"}, {"stringValue": "20 Äpfel 🍏"})
    assert f"flytesnacks/development/{name}  SUCCEEDED  4 attempts of tasks ended" in sandbox.run("runs").stdout
    assert "0 running, 0 waiting, of 0 executions" in sandbox.run("status").stdout


async def test_failing_task_fails_its_workflow_and_its_log_is_a_page(sandbox: Sandbox) -> None:
    name = await pyflyte_run(sandbox, "basics.py", "failing", fails=True)
    closure = (await get(sandbox, f"executions/flytesnacks/development/{name}"))["closure"]
    assert (closure["phase"], closure["error"]["kind"]) == ("FAILED", "USER")
    assert "ValueError: there is no fruit 14" in closure["error"]["message"]
    tasks = await get(sandbox, f"task_executions/flytesnacks/development/{name}/n1")
    (log,) = tasks["taskExecutions"][0]["closure"]["logs"]
    async with httpx.AsyncClient() as client:
        page = await client.get(log["uri"])
        foreign = await client.get(log["uri"], headers={"Host": "example.org"})
    assert "there is no fruit 14" in page.text
    assert (page.headers["content-type"], foreign.status_code) == ("text/plain; charset=utf-8", 403)


async def test_task_with_an_environment_that_no_process_can_have_fails_by_its_name(sandbox: Sandbox) -> None:
    task = entities.task("engine.impossible", {}, {})
    task.spec.template.container.env.append(KeyValuePair(key="a=b", value="x"))
    async with sandbox.channel() as channel:
        admin = AdminServiceStub(channel)
        await admin.CreateTask(task)
        name = await launched.launch(admin, task.id)
    url = f"{sandbox.url}/api/v1/executions/flytesnacks/development/{name.name}"
    await until(lambda: "error" in httpx.get(url).json()["closure"], 60)
    error = (await get(sandbox, f"executions/flytesnacks/development/{name.name}"))["closure"]["error"]
    assert (error["code"], error["kind"]) == ("BadTaskSpecification", "USER")
    assert "'a=b' cannot be the name of an environment variable" in error["message"]
