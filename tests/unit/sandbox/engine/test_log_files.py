"""The log of an attempt is a file of its folder, or it is said why there is none."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.sandbox.engine.log_files import LogFiles, NoLog

NAMES = ("p", "d", "e", "n0", "0")


@pytest.fixture
def logs(tmp_path: Path) -> LogFiles:
    made = LogFiles(tmp_path / "attempts")
    folder = made.attempt(NAMES)
    folder.make()
    folder.log.write_text("printed")
    return made


def text(logs: LogFiles, names: Sequence[str] = NAMES) -> bytes:
    with logs.open(names, runs=False) as file:
        return file.read()


def test_log_is_read(logs: LogFiles) -> None:
    assert text(logs) == b"printed"


@pytest.mark.parametrize(
    ("names", "runs", "message"),
    [
        (("x", "d", "e", "n0", "0"), False, "There are no logs of an execution x/d/e"),
        (("p", "d", "x", "n0", "0"), False, "There are no logs of an execution p/d/x"),
        (("p", "d", "x", "n0", "0"), True, "Attempt 0 of node n0 of p/d/x has no log yet: its task has not started"),
        (("p", "d", "e", "n9", "0"), False, "The execution p/d/e has no log of a node n9"),
        (("p", "d", "e", "n0", "7"), False, "The node n0 of p/d/e has no log of an attempt 7"),
        (("p", "d", "e", "n0", "7"), True, "Attempt 7 of node n0 of p/d/e has no log yet"),
        (("..", "..", "e", "n0", "0"), False, "There are no logs of an execution"),
        (("p", "d", "e", "n0", "é" * 2000), False, "The node n0 of p/d/e has no log of an attempt"),
        (("p" * 300, "d", "e", "n0", "0"), False, "There are no logs of an execution"),
        (("p", "d", "e", "n0", "a\0b"), False, "The node n0 of p/d/e has no log of an attempt"),
    ],
)
def test_missing_log_has_a_reason(logs: LogFiles, names: Sequence[str], runs: bool, message: str) -> None:
    with pytest.raises(NoLog, match=message):
        logs.open(names, runs=runs)


def test_log_that_was_removed_is_said_to_be(logs: LogFiles) -> None:
    logs.attempt(NAMES).log.unlink()
    with pytest.raises(NoLog, match="The log of attempt 0 of node n0 of p/d/e was removed"):
        logs.open(NAMES, runs=True)


def test_link_or_pipe_in_place_of_a_log_is_none(logs: LogFiles, tmp_path: Path) -> None:
    log = logs.attempt(NAMES).log
    (tmp_path / "log").write_text("a secret")
    log.unlink()
    log.symlink_to(tmp_path / "log")
    with pytest.raises(NoLog):
        logs.open(NAMES, runs=False)
    log.unlink()
    os.mkfifo(log)  # to open it would wait for a writer
    with pytest.raises(NoLog):
        logs.open(NAMES, runs=False)


def test_folders_are_not_left_by_links(logs: LogFiles, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a secret")
    logs.attempt(("p", "d", "e", "n0", "1")).root.symlink_to(tmp_path)
    with pytest.raises(NoLog):
        logs.open(("p", "d", "e", "n0", "1"), runs=False)
