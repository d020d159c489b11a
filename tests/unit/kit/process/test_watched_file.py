"""A file that is read again when it has changed."""

from pathlib import Path

import pytest

from services.kit.errors import InvalidArgument
from services.kit.process.watched_file import WatchedFile


class Uses:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> None:
        if text.startswith("wrong"):
            raise InvalidArgument("no use")
        self.texts.append(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


def test_file_is_used_at_first_and_after_each_change(path: Path) -> None:
    uses = Uses()
    file = WatchedFile(path, uses)
    file.read_first()
    file.read_again()
    path.write_text("two")
    file.read_again()
    file.read_again()
    assert uses.texts == ["one", "two"]


def test_wrong_file_stops_the_start(path: Path) -> None:
    path.write_text("wrong")
    with pytest.raises(InvalidArgument, match="no use"):
        WatchedFile(path, Uses()).read_first()
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="UTF-8"):
        WatchedFile(path, Uses()).read_first()
    path.unlink()
    with pytest.raises(InvalidArgument, match="cannot be read"):
        WatchedFile(path, Uses()).read_first()


def test_wrong_change_is_logged_once_and_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uses = Uses()
    file = WatchedFile(path, uses)
    file.read_first()
    path.write_text("wrong")
    file.read_again()
    file.read_again()
    assert len([record for record in caplog.records if "previous content stays in force" in record.message]) == 1
    path.unlink()
    file.read_again()
    file.read_again()
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1
    path.write_text("three")
    file.read_again()
    assert uses.texts == ["one", "three"]
