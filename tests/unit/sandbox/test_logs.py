"""Log files: their ends and their bound."""

from pathlib import Path

import pytest

from deploy.sandbox import logs


def test_tail_returns_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number} {'x' * 1000}\n" for number in range(1000)))
    assert [line.split()[1] for line in logs.tail(log, 2)] == ["998", "999"]


def test_tail_of_no_log_is_empty(tmp_path: Path) -> None:
    assert logs.tail(tmp_path / "a.log", 5) == []


def test_tail_of_bytes_that_are_no_text_returns_the_other_lines(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\xff\xfe\nfine\n")
    assert logs.tail(tmp_path / "a.log", 1) == ["fine"]


def test_large_log_is_set_aside_and_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_LOG_BYTES", 10)
    log = tmp_path / "a.log"
    with log.open("a") as writer:
        writer.write("0123456789 first\n")
        writer.flush()
        logs.bound(log)
        writer.write("second\n")
    assert log.read_text() == "second\n"
    assert (tmp_path / "a.log.1").read_text() == "0123456789 first\n"


def test_small_log_stays(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("short\n")
    logs.bound(log)
    assert log.read_text() == "short\n"
    assert not (tmp_path / "a.log.1").exists()
