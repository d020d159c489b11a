"""An attempt that had ended when the engine was killed gives its result, and leaves nothing else."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import Container, DataLoadingConfig, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType

from deploy.sandbox.engine.graph.interface import StartTask, TaskKey
from deploy.sandbox.engine.tasks.attempts import AttemptRunner, RunContext
from deploy.sandbox.engine.tasks.budget import Budget, Share
from deploy.sandbox.engine.tasks.environment import Machine
from deploy.sandbox.engine.tasks.folders import AttemptFolder, folder_of
from deploy.sandbox.engine.tasks.forks import ForkServer
from deploy.sandbox.engine.tasks.secrets import SecretStore
from deploy.sandbox.engine.tasks.task_python import TaskPython
from services.kit.objects.store import ObjectStore
from tests.support.literals import python_values

EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="e")
KEY = TaskKey("n0")
TEMPLATE = TaskTemplate(
    id=Identifier(name="t"),
    type="raw-container",
    interface=TypedInterface(
        outputs=VariableMap(variables={"y": Variable(type=LiteralType(simple=SimpleType.INTEGER))})
    ),
    container=Container(image="i", command=["true"], data_config=DataLoadingConfig(enabled=True)),
)


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open((tmp_path / "objects").as_uri(), "", "")


@pytest.fixture
def runner(tmp_path: Path, objects: ObjectStore) -> AttemptRunner:
    nothing = tmp_path / "nothing"  # no process is started
    return AttemptRunner(
        task_python=TaskPython(nothing, nothing, nothing, nothing),
        machine=Machine(nothing, "", nothing, {}),
        forks=ForkServer(nothing, {}, nothing, warm=False),
        budget=Budget(Share(Fraction(1), Fraction(1))),
        secrets=SecretStore(nothing, {}),
        objects=objects,
        folder=tmp_path / "attempts",
        log_url=lambda _execution, _start: "",
        nice=0,
    )


@pytest.fixture
def folder(runner: AttemptRunner) -> AttemptFolder:
    made = folder_of(runner.folder, EXECUTION, KEY)
    made.make()
    made.log.write_text("printed")
    made.exit.write_text(json.dumps({"status": 0}))
    (made.data / "outputs").mkdir(parents=True)
    (made.data / "outputs" / "y").write_text("3")
    return made


def start(objects: ObjectStore, raw_output_prefix: str = "") -> StartTask:
    raw = raw_output_prefix or objects.uri("data", "p", "d", "e", "n0", "0")
    return StartTask(KEY, TEMPLATE, LiteralMap(), "", objects.uri("n0", "0"), raw, "", "", interruptible=False)


async def run(runner: AttemptRunner, started: StartTask) -> object:
    finished = await runner.run(RunContext(EXECUTION, Identifier(), {}), started, lambda _value: None)
    return python_values(finished.outputs) if finished.outputs is not None else finished.error


async def test_attempt_that_had_ended_leaves_log_and_end(
    runner: AttemptRunner, folder: AttemptFolder, objects: ObjectStore
) -> None:
    assert await run(runner, start(objects)) == {"y": 3}
    assert sorted(path.name for path in folder.root.iterdir()) == ["exit", "log"]


async def test_outputs_of_a_raw_container_are_stored_once(
    runner: AttemptRunner, folder: AttemptFolder, objects: ObjectStore
) -> None:
    for _ in range(2):  # the engine is killed before it has written the result to its journal
        assert await run(runner, start(objects)) == {"y": 3}
    assert not folder.data.exists()


async def test_task_whose_raw_outputs_would_leave_the_store_is_an_error_of_the_user(
    runner: AttemptRunner, objects: ObjectStore, tmp_path: Path
) -> None:
    error = await run(runner, start(objects, f"{tmp_path}/elsewhere"))
    assert "is a folder outside of this sandbox" in str(error)
    assert "BadTaskSpecification" in str(error)
