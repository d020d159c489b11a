"""Journals on disk: what was written is read, what was not written to its end is cut off."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.sandbox.engine.graph.inputs import Begin, Done, Input, TaskFinished
from deploy.sandbox.engine.graph.interface import TaskKey
from deploy.sandbox.engine.journal_file import JournalFile
from tests.support.entities import literals

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
INPUTS: list[Input] = [Begin(), Done(1), TaskFinished(TaskKey("n0", 1), outputs=literals(text="ü\u2028\n"))]


def written(path: Path, code: str = "") -> None:
    with closing(JournalFile(path, code)) as journal:
        assert journal.entries() == []
        for each in INPUTS:
            journal.append(each, AT)


def test_inputs_are_read_as_they_were_written(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    with closing(JournalFile(tmp_path / "journal")) as journal:
        assert journal.entries() == [(AT, each) for each in INPUTS]
        assert not journal.begun_anew


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_line_that_was_not_written_to_its_end_is_cut_off(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "journal"
    written(path)
    path.write_bytes(path.read_bytes()[:-lost])
    with closing(JournalFile(path)) as journal:
        assert journal.entries() == [(AT, each) for each in INPUTS[:2]]
        journal.append(Done(9), AT)
    with closing(JournalFile(path)) as journal:
        assert journal.entries() == [(AT, each) for each in (*INPUTS[:2], Done(9))]


def test_journal_of_other_code_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, "former code")
    with closing(JournalFile(path)) as journal:
        assert journal.entries() == []
        assert journal.begun_anew
        journal.append(Begin(), AT)
    with closing(JournalFile(path)) as again:
        assert again.entries() == [(AT, Begin())]
        assert not again.begun_anew


def test_new_journal_is_not_begun_anew(tmp_path: Path) -> None:
    with closing(JournalFile(tmp_path / "journal")) as journal:
        assert journal.entries() == []
        assert not journal.begun_anew
