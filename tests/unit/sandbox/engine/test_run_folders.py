"""Each run has folders that no other has, on disk and in the object store."""

from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, WorkflowExecutionConfig
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier

from deploy.sandbox.engine.graph.node_ids import raw_outputs
from deploy.sandbox.engine.runs import RunFolder
from services.contracts.engine import EngineInputs, RunRequest

AMBIGUOUS = [("a-b", "c", "e"), ("a", "b-c", "e"), ("a", "b", "c-e")]


def request(project: str, domain: str, name: str) -> RunRequest:
    execution = WorkflowExecutionIdentifier(project=project, domain=domain, name=name)
    inputs, now = EngineInputs(TaskResourceAttributes()), datetime.now(UTC)
    return RunRequest(execution, Identifier(), ExecutionSpec(), WorkflowExecutionConfig(), "", inputs, now)


def test_data_of_executions_is_in_folders_of_their_own(tmp_path: Path) -> None:
    folders = []
    for number, names in enumerate(AMBIGUOUS):
        sent, folder = request(*names), RunFolder(tmp_path / str(number))
        folder.accept(sent)
        folders.append(folder.data_folder(sent.id))
    assert folders == ["a-b/c/e", "a/b-c/e", "a/b/c-e"]
    assert not any(one.startswith(f"{other}/") for one, other in combinations(folders, 2))


def test_run_of_an_earlier_release_keeps_its_folder(tmp_path: Path) -> None:
    sent, folder = request("a-b", "c", "e"), RunFolder(tmp_path / "run")
    folder.accept(sent)
    folder.data.unlink()  # as that release left it
    assert folder.data_folder(sent.id) == "a-b-c-e"
    folder.accept(sent)  # executions asks again
    assert folder.data_folder(sent.id) == "a-b-c-e"


def test_raw_outputs_of_attempts_are_in_folders_of_their_own() -> None:
    places = [("a", 0, -1), ("a-0-n1", 2, -1), ("a", 2, 1), ("a", 1, 2), ("a/0", 1, -1), ("a/n1", 0, -1), ("..", 0, -1)]
    folders = [raw_outputs(*place) for place in places]
    assert folders[:4] == ["a/0", "a-0-n1/2", "a/n1/2", "a/n2/1"]
    assert len(set(folders)) == len(folders)
    assert all(folder.startswith("node.") for folder in folders[4:])
