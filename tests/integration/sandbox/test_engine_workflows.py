"""The local engine runs workflows of every shape, as flytekit's remote client sees them."""

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

pytestmark = pytest.mark.long

FLOWS = ROOT / "tests" / "clients" / "engine_flows"
SCRIPT = ROOT / "tests" / "clients" / "engine_run.py"
SUCCEEDED, FAILED = 4, 6
NODE_SUCCEEDED, NODE_FAILED, NODE_SKIPPED = 3, 5, 7
TASK_SUCCEEDED, TASK_FAILED = 3, 5
USER, SYSTEM = 1, 2

Runs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with (
        TemporaryDirectory(prefix="fp-flows-", ignore_cleanup_errors=True) as folder,
        running_sandbox(Path(folder) / "sandbox", engine="local", task_python=clients.CLIENTS / "python") as running,
    ):
        secrets = running.folder / "secrets" / "db"
        secrets.mkdir()
        (secrets / "password").write_text("plum\n")
        yield running


async def run_all(sandbox: Sandbox, file: str, chosen: dict[str, dict[str, Any]]) -> Runs:
    """Run workflows at the same time; return what became of them."""
    arguments = [f"{name}={json.dumps(inputs)}" for name, inputs in chosen.items()]
    printed = await clients.output(sandbox, FLOWS, "python", SCRIPT, file, *arguments)
    results: Runs = json.loads(printed.splitlines()[-1])
    return results


@pytest.fixture(scope="module")
async def runs(sandbox: Sandbox) -> Runs:
    files = {name: str(sandbox.folder / name) for name in ("child", "handler", "cached", "serialized")}
    basics: dict[str, dict[str, Any]] = {
        "values": {"text": "Größe\n"},
        "retried": {},
        "killed": {},
        "forking": {"file": files["child"]},
        "mapped": {"n": list(range(100))},
        "grown": {"n": 4},
        "unlocked": {},
        "locked": {},
    }
    shapes: dict[str, dict[str, Any]] = {
        "branched": {"n": 50},
        "nested": {},
        "handled": {"n": 4, "file": files["handler"]},
        "late": {},
        "timed_out": {},
        "cached": {"n": 1, "file": files["cached"]},
        "serialized": {"n": 1, "file": files["serialized"]},
        "mostly": {"n": [1, 2, 3, 5]},
        "checkpointed": {},
        "decked": {},
        "raw": {"n": 3},
        "unions": {},
        "recursive": {},
    }
    return await run_all(sandbox, "basics.py", basics) | await run_all(sandbox, "shapes.py", shapes)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("values", {"o0": 2.0, "o1": "Größe\n+täxt.txt"}),
        ("retried", {"o0": 3}),
        ("mapped", {"o0": [n * n for n in range(100)]}),
        ("grown", {"o0": [0, 1, 4, 9]}),
        ("unlocked", {"o0": "plum"}),
        ("branched", {"o0": 100}),
        ("nested", {"o0": 4, "o1": 4}),
        ("cached", {"o0": 1}),
        ("serialized", {"o0": 1, "o1": 1, "o2": 1}),
        ("mostly", {"o0": [1, None, 3, 5]}),
        ("checkpointed", {"o0": 2}),
        ("decked", {"o0": 1}),
        ("raw", {}),
        ("unions", {"o0": "str None"}),
        ("recursive", {"o0": 0}),
    ],
)
def test_workflow_ends_with_its_outputs(runs: Runs, name: str, outputs: dict[str, Any]) -> None:
    assert (runs[name]["phase"], runs[name]["error"], runs[name]["outputs"]) == (SUCCEEDED, None, outputs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("killed", "Reason [SIGTERM]"),
        ("locked", "the secret db/gone is not in this sandbox"),
        ("handled", "RuntimeError: refused"),
        ("late", "RuntimeError: refused"),
        ("timed_out", "task execution timeout [2s] expired"),
    ],
)
def test_workflow_fails_with_the_error_of_its_task(runs: Runs, name: str, message: str) -> None:
    assert runs[name]["phase"] == FAILED
    assert runs[name]["error"]["kind"] == USER
    assert message in runs[name]["error"]["message"]


def test_retried_task_has_an_execution_for_each_attempt(runs: Runs) -> None:
    assert runs["retried"]["nodes"]["n0"]["attempts"] == [TASK_FAILED, TASK_FAILED, TASK_SUCCEEDED]
    assert runs["checkpointed"]["nodes"]["n0"]["attempts"] == [TASK_FAILED, TASK_FAILED, TASK_SUCCEEDED]


def test_log_of_each_attempt_is_a_page(runs: Runs) -> None:
    texts = [httpx.get(uri).text for uri in runs["retried"]["nodes"]["n0"]["logs"]]
    assert ["this is attempt 0" in text for text in texts] == [True, False, False]
    assert "this is attempt 2" in texts[2]


def test_child_that_a_task_left_behind_is_ended(sandbox: Sandbox, runs: Runs) -> None:
    child = int((sandbox.folder / "child").read_text())
    assert runs["forking"]["outputs"] == {"o0": child}
    assert not psutil.pid_exists(child)


def test_cached_tasks_run_once(sandbox: Sandbox, runs: Runs) -> None:
    assert runs["cached"]["phase"] == runs["serialized"]["phase"] == SUCCEEDED
    for name in ("cached", "serialized"):
        assert (sandbox.folder / name).read_text() == "called\n"


def test_failure_handler_runs_with_the_inputs_of_the_workflow(sandbox: Sandbox, runs: Runs) -> None:
    assert runs["handled"]["phase"] == FAILED
    assert (sandbox.folder / "handler").read_text() == "4 n0"


def test_other_nodes_end_before_a_workflow_that_fails_late(runs: Runs) -> None:
    phases = {name: node["phase"] for name, node in runs["late"]["nodes"].items()}
    assert (phases["n0"], phases["n1"], phases["n2"]) == (NODE_FAILED, NODE_SUCCEEDED, NODE_SUCCEEDED)


def test_nested_nodes_are_below_those_that_contain_them(runs: Runs) -> None:
    assert runs["nested"]["nodes"]["n0"]["below"] == ["n0-0-end-node", "n0-0-n0", "n0-0-n1", "n0-0-start-node"]
    assert runs["nested"]["nodes"]["n1"]["below"] == ["workflow"]
    assert "n0-0-dn0" in runs["recursive"]["nodes"]["n0"]["below"]


def test_command_of_an_image_says_that_it_runs_without_it(runs: Runs) -> None:
    (uri,) = runs["raw"]["nodes"]["n0"]["logs"]
    assert "runs on this machine as it is, not in the image 'example.org/none:1'" in httpx.get(uri).text


def test_deck_is_an_object_of_the_node(sandbox: Sandbox, runs: Runs) -> None:
    path = f"{sandbox.url}/api/v1/node_executions/flytesnacks/development/{runs['decked']['name']}"
    (node,) = (each for each in httpx.get(path).json()["nodeExecutions"] if each["id"]["nodeId"] == "n0")
    assert "<b>deck</b>" in Path(node["closure"]["deckUri"].removeprefix("file://")).read_text()
