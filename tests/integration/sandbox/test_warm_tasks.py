"""A task of flytekit in a fork of the fork server is as isolated as one in a new process."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.errors_pb2 import ErrorDocument
from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive, Scalar

from deploy.sandbox.engine.tasks.environment import Machine
from deploy.sandbox.engine.tasks.folders import AttemptFolder
from deploy.sandbox.engine.tasks.forks import ForkServer
from tests.support import clients
from tests.support.sandbox import ROOT

pytestmark = pytest.mark.long

FLOWS = ROOT / "tests" / "clients" / "engine_flows"
RESOLVER = "flytekit.core.python_auto_container.default_task_resolver"

Start = Callable[..., Awaitable[AttemptFolder]]


@pytest.fixture(params=[True, False], ids=["warm", "cold"])
async def start(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Start]:
    """Return a function that runs an attempt of `report`."""
    machine = Machine(clients.CLIENTS / "python", "localhost:1", tmp_path / "config.yaml", os.environ)
    (tmp_path / "config.yaml").write_text("admin:\n  endpoint: localhost:1\n")
    server = ForkServer(machine.python, machine.variables(), tmp_path / "log", warm=request.param)

    async def started(how: str, name: str = "attempt") -> AttemptFolder:
        folder = AttemptFolder(tmp_path / name)
        folder.make()
        literal = Literal(scalar=Scalar(primitive=Primitive(string_value=how)))
        folder.inputs.write_bytes(LiteralMap(literals={"how": literal}).SerializeToString())
        command = [
            *("pyflyte-execute", "--inputs", str(folder.inputs), "--output-prefix", str(folder.root / "out")),
            *("--raw-output-data-prefix", str(folder.root / "raw"), "--checkpoint-path", str(folder.root / "check")),
            *("--prev-checkpoint", '""', "--resolver", RESOLVER, "--"),
            *("task-module", "reports", "task-name", "report"),
        ]
        env = {**machine.variables(), "TMPDIR": str(folder.temporary), "PYTHONPATH": str(FLOWS)}
        env |= {"FLYTE_INTERNAL_EXECUTION_ID": "mine", "FLYTE_INTERNAL_EXECUTION_PROJECT": "p"}
        await server.run(command, env, folder, 5.0)
        return folder

    yield started
    await server.close()


def status(folder: AttemptFolder) -> int:
    return os.waitstatus_to_exitcode(json.loads(folder.exit.read_text())["status"])


def reported(folder: AttemptFolder) -> dict[str, Any]:
    outputs = LiteralMap.FromString((folder.root / "out" / "outputs.pb").read_bytes())
    parsed: dict[str, Any] = json.loads(outputs.literals["o0"].scalar.primitive.string_value)
    return parsed


async def test_process_of_a_task_is_its_own(start: Start) -> None:
    folder = await start("return")
    assert status(folder) == 0
    found = reported(folder)
    python = clients.CLIENTS / "python"
    assert found["folder"] == str(folder.work)
    assert found["environment"].keys() >= {"TMPDIR", "PATH", "FLYTE_INTERNAL_EXECUTION_ID"}
    assert "PYTEST_CURRENT_TEST" not in found["environment"]
    # The environment may be a link; a script names its interpreter by one path or the other.
    assert Path(found["path"][0]).resolve() == python.parent.resolve()  # noqa: ASYNC240
    assert found["path"][1] == str(FLOWS)
    assert found["path"][-1] == str(folder.work)
    assert found["arguments"][0] == found["main"]
    assert Path(found["main"]).name == "pyflyte-execute"
    assert found["arguments"][-4:] == ["task-module", "reports", "task-name", "report"]
    handled = {name for name, handler in found["handlers"].items() if handler not in {"0", "Handlers.SIG_DFL", "None"}}
    assert handled <= {"SIGINT", "SIGPIPE", "SIGXFSZ"}
    assert (found["mask"], found["leads session"], found["stdin"]) == ([], True, "/dev/null")
    assert found["temporary"] == str(folder.temporary)
    assert found["execution"] == "mine"
    assert (found["encoding"], found["main thread"]) == (["utf-8", "utf-8"], True)
    assert "to the log: ü" in folder.log.read_text()


async def test_attempts_draw_different_random_numbers(start: Start) -> None:
    first, second = await start("return", "first"), await start("return", "second")
    assert reported(first)["random"] != reported(second)["random"]


@pytest.mark.parametrize(("how", "code"), [("raise", 0), ("exit", 7), ("kill", -9)])
async def test_end_of_a_task_is_that_of_its_process(start: Start, how: str, code: int) -> None:
    folder = await start(how)
    assert status(folder) == code
    error = folder.root / "out" / "error.pb"
    assert error.exists() == (how == "raise")
    if how == "raise":
        document = ErrorDocument.FromString(error.read_bytes())
        assert "ValueError: asked to" in document.error.message
