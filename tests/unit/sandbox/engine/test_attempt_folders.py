"""Folders of attempts have names that are safe, and old ones are deleted."""

import json
import os
from pathlib import Path

import pytest
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from deploy.sandbox.engine.graph.interface import TaskKey
from deploy.sandbox.engine.path_parts import path_part
from deploy.sandbox.engine.tasks.folders import clear_ended, delete_older, folder_of

EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="e")


def test_attempts_and_items_of_arrays_have_folders_of_their_own(tmp_path: Path) -> None:
    keys = [TaskKey("n0"), TaskKey("n0", 1), TaskKey("n1"), TaskKey("n0", 0, 3), TaskKey("n0", 1, 3)]
    folders = [folder_of(tmp_path, EXECUTION, key).root.relative_to(tmp_path).as_posix() for key in keys]
    assert folders == ["p/d/e/n0/0", "p/d/e/n0/1", "p/d/e/n1/0", "p/d/e/n0/n3-0", "p/d/e/n0/n3-1"]


@pytest.mark.parametrize("name", [".", "..", "a/b", "../up", "%2E", "ä", "ä" * 255])
def test_name_stays_within_its_folder(name: str) -> None:
    part = path_part(name)
    assert "/" not in part
    assert part not in {".", ".."}
    assert path_part(name) != path_part(name + "x")
    assert len(path_part(name)) <= 255


def test_new_start_leaves_only_the_log(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, EXECUTION, TaskKey("n0"))
    folder.make()
    for file in (folder.log, folder.exit, folder.work / "left", folder.temporary / "left"):
        file.write_text("x")
    folder.make()
    assert sorted(file.name for file in folder.root.rglob("*")) == ["log", "tmp", "work"]


def test_new_start_replaces_what_a_task_put_in_place_of_its_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "attempts", EXECUTION, TaskKey("n0"))
    folder.make()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder.work.rmdir()
    folder.work.symlink_to(outside)
    folder.inputs.mkdir()
    folder.exit.mkdir()
    os.mkfifo(folder.log)
    folder.make()
    assert folder.work.is_dir()
    assert not folder.work.is_symlink()
    assert sorted(file.name for file in folder.root.iterdir()) == ["tmp", "work"]
    assert [file.name for file in outside.iterdir()] == ["kept"]


def test_end_of_an_attempt_is_read_only_from_a_file_with_a_status(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, EXECUTION, TaskKey("n0"))
    folder.make()
    assert folder.status() is None
    folder.exit.write_text(json.dumps({"status": 256}))
    assert folder.status() == 256
    for text in ("", "[]", "{}", '{"status": null}'):
        folder.exit.write_text(text)
        assert folder.status() is None
    folder.exit.unlink()
    os.mkfifo(folder.exit)  # to open it would wait for a writer
    assert folder.status() is None


def test_leftovers_of_attempts_that_have_ended_are_deleted(tmp_path: Path) -> None:
    for name in ("ended", "running"):
        folder = folder_of(tmp_path, WorkflowExecutionIdentifier(project="p", domain="d", name=name), TaskKey("n0"))
        folder.make()
        folder.log.write_text("x")
        folder.exit.write_text("{}")
        (folder.work / "gone").symlink_to("nowhere")
        for below in (folder.secrets, folder.data):
            (below / "deep").mkdir(parents=True)
    clear_ended(tmp_path, {("p", "d", "running")})
    left = {path.parents[1].name: sorted(file.name for file in path.iterdir()) for path in tmp_path.glob("p/d/*/n0/0")}
    assert left == {"ended": ["exit", "log"], "running": ["data", "exit", "log", "secrets", "tmp", "work"]}


def test_links_to_nothing_do_not_hinder_the_deletion_of_old_attempts(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, EXECUTION, TaskKey("n0"))
    folder.make()
    (folder.work / "gone").symlink_to("nowhere")
    assert delete_older(tmp_path, 2000.0, ()) == 0
    for path in (tmp_path / "p" / "d" / "e", *(tmp_path / "p" / "d" / "e").rglob("*")):
        os.utime(path, (1000.0, 1000.0), follow_symlinks=False)
    assert delete_older(tmp_path, 2000.0, ()) == 1


def test_old_attempts_are_deleted_unless_their_execution_runs(tmp_path: Path) -> None:
    names = ("old", "running", "new")
    for name in names:
        identifier = WorkflowExecutionIdentifier(project="p", domain="d", name=name)
        folder = folder_of(tmp_path, identifier, TaskKey("n0"))
        folder.make()
        folder.log.write_text("x")
    for name in ("old", "running"):
        for file in (tmp_path / "p" / "d" / name, *(tmp_path / "p" / "d" / name).rglob("*")):
            os.utime(file, (1000.0, 1000.0))
    assert delete_older(tmp_path, 2000.0, {("p", "d", "running")}) == 1
    assert sorted(folder.name for folder in (tmp_path / "p" / "d").iterdir()) == ["new", "running"]
