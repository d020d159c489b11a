"""The local engine runs flytekit's workflows to their end: values, errors, retries, maps, dynamic tasks, secrets."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
import pytest

from tests.support import clients
from tests.support.sandbox import ROOT, Sandbox, running_sandbox

FLOWS = ROOT / "tests" / "clients" / "engine_flows"
SCRIPT = ROOT / "tests" / "clients" / "engine_run.py"
SUCCEEDED, FAILED = 4, 6
NODE_SUCCEEDED, NODE_FAILED = 3, 5
TASK_SUCCEEDED, TASK_FAILED = 3, 5
USER, SYSTEM = 1, 2

Runs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with TemporaryDirectory(prefix="fp-engine-", ignore_cleanup_errors=True) as folder:
        secrets = Path(folder) / "sandbox" / "secrets" / "db"
        with running_sandbox(
            Path(folder) / "sandbox", engine="local", task_python=clients.CLIENTS / "python"
        ) as running:
            secrets.mkdir()
            (secrets / "password").write_text("plum\n")
            yield running


@pytest.fixture(scope="module")
async def runs(sandbox: Sandbox) -> Runs:
    """Run all workflows at once."""
    chosen: dict[str, dict[str, Any]] = {
        "chain": {"n": 5},
        "values": {"text": "Größe\n"},
        "failing": {},
        "retried": {},
        "killed": {},
        "forking": {"file": str(sandbox.folder / "child")},
        "mapped": {"n": list(range(10))},
        "grown": {"n": 4},
        "unlocked": {},
        "locked": {},
    }
    arguments = [f"{name}={json.dumps(inputs)}" for name, inputs in chosen.items()]
    printed = await clients.output(sandbox, FLOWS, "python", SCRIPT, "basics.py", *arguments)
    results: Runs = json.loads(printed.splitlines()[-1])
    return results


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("chain", {"total": 20, "text": "20 Äpfel 🍏"}),
        ("values", {"o0": 2.0, "o1": "Größe\n+täxt.txt"}),
        ("retried", {"o0": 3}),
        ("mapped", {"o0": [n * n for n in range(10)]}),
        ("grown", {"o0": [0, 1, 4, 9]}),
        ("unlocked", {"o0": "plum"}),
    ],
)
def test_workflow_ends_with_its_outputs(runs: Runs, name: str, outputs: dict[str, Any]) -> None:
    assert (runs[name]["phase"], runs[name]["error"], runs[name]["outputs"]) == (SUCCEEDED, None, outputs)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("failing", USER, "ValueError: there is no fruit 14"),
        ("killed", USER, "Reason [SIGTERM]"),
        ("locked", USER, "the secret db/gone is not in this sandbox"),
    ],
)
def test_workflow_fails_with_the_error_of_its_task(runs: Runs, name: str, kind: int, message: str) -> None:
    assert runs[name]["phase"] == FAILED
    assert runs[name]["error"]["kind"] == kind
    assert message in runs[name]["error"]["message"]


def test_retried_task_has_an_execution_for_each_attempt(runs: Runs) -> None:
    assert runs["retried"]["nodes"]["n0"]["attempts"] == [TASK_FAILED, TASK_FAILED, TASK_SUCCEEDED]


def test_log_of_each_attempt_is_a_page(runs: Runs) -> None:
    texts = [httpx.get(uri).text for uri in runs["retried"]["nodes"]["n0"]["logs"]]
    assert ["this is attempt 0" in text for text in texts] == [True, False, False]
    assert "this is attempt 2" in texts[2]


def test_child_that_a_task_left_behind_is_ended(sandbox: Sandbox, runs: Runs) -> None:
    child = int((sandbox.folder / "child").read_text())
    assert runs["forking"]["outputs"] == {"o0": child}
    assert not psutil.pid_exists(child)


def test_runs_are_listed_with_their_end(sandbox: Sandbox, runs: Runs) -> None:
    listed = sandbox.run("runs").stdout
    for run in runs.values():
        (line,) = (each for each in listed.splitlines() if run["name"] in each)
        assert ("SUCCEEDED" if run["phase"] == SUCCEEDED else "FAILED") in line
    assert "0 running, 0 waiting, of 0 executions" in sandbox.run("status").stdout


async def test_pyflyte_run_prints_the_outputs(sandbox: Sandbox) -> None:
    command = ("pyflyte", "run", "--remote", "--wait", "--poll-interval", "1", "basics.py", "chain", "--n", "1")
    done = await clients.run(sandbox, FLOWS, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    name = done.stdout.partition("/executions/")[2].split()[0]
    async with httpx.AsyncClient() as client:
        data = await client.get(f"{sandbox.url}/api/v1/data/executions/flytesnacks/development/{name}")
    assert data.json()["fullOutputs"]["literals"]["total"]["scalar"]["primitive"]["integer"] == "4"
