"""Runs of the engine are listed with what they do or how they ended."""

from datetime import UTC, datetime

from deploy.sandbox.runs import ListedRun, run_lines

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_run_has_a_line_with_its_tasks() -> None:
    runs = [
        ListedRun("p/d/first", "2026-01-02T03:00:00+00:00", 0, 0, 3, "SUCCEEDED"),
        ListedRun("p/d/second-one", "2026-01-02T03:03:05+00:00", 2, 5, 1, ""),
        ListedRun("p/d/third", "", 0, 0, 0, ""),
    ]
    assert run_lines(runs, NOW).splitlines() == [
        "p/d/first       SUCCEEDED  3 attempts of tasks ended",
        "p/d/second-one  RUNNING    1 attempts of tasks ended, 2 running, 5 waiting, for 60 s",
        "p/d/third       preparing",
    ]


def test_no_runs_are_said_to_be_none() -> None:
    assert run_lines([]) == "Nothing has been run since the engine started."
