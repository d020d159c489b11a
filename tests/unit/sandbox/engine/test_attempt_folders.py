"""Folders of attempts have names that are safe, and old ones are deleted."""

import os
from pathlib import Path

import pytest
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from deploy.sandbox.engine.graph.interface import TaskKey
from deploy.sandbox.engine.tasks.folders import delete_older, folder_of, path_part

EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="e")


def test_attempts_and_items_of_arrays_have_folders_of_their_own(tmp_path: Path) -> None:
    keys = [TaskKey("n0"), TaskKey("n0", 1), TaskKey("n1"), TaskKey("n0", 0, 3), TaskKey("n0", 1, 3)]
    folders = [folder_of(tmp_path, EXECUTION, key).root.relative_to(tmp_path).as_posix() for key in keys]
    assert folders == ["p/d/e/n0/0", "p/d/e/n0/1", "p/d/e/n1/0", "p/d/e/n0/n3-0", "p/d/e/n0/n3-1"]


@pytest.mark.parametrize("name", [".", "..", "a/b", "../up", "%2E", "ä"])
def test_name_stays_within_its_folder(name: str) -> None:
    part = path_part(name)
    assert "/" not in part
    assert part not in {".", ".."}
    assert path_part(name) != path_part(name + "x")


def test_new_start_leaves_only_the_log(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, EXECUTION, TaskKey("n0"))
    folder.make()
    for file in (folder.log, folder.exit, folder.work / "left", folder.temporary / "left"):
        file.write_text("x")
    folder.make()
    assert sorted(file.name for file in folder.root.rglob("*")) == ["log", "tmp", "work"]


def test_old_attempts_are_deleted_unless_their_execution_runs(tmp_path: Path) -> None:
    names = ("old", "running", "new")
    for name in names:
        identifier = WorkflowExecutionIdentifier(project="p", domain="d", name=name)
        folder = folder_of(tmp_path, identifier, TaskKey("n0"))
        folder.make()
        folder.log.write_text("x")
    for name in ("old", "running"):
        for file in (tmp_path / "p" / "d" / name).rglob("*"):
            os.utime(file, (1000.0, 1000.0))
    assert delete_older(tmp_path, 2000.0, {("p", "d", "running")}) == 1
    assert sorted(folder.name for folder in (tmp_path / "p" / "d").iterdir()) == ["new", "running"]
