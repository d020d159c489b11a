"""Percentiles and the text of a report."""

import math

import pytest

from bench.check import Findings, expected
from bench.entities import ProjectDomain, Shape
from bench.report import Result, percentile, render
from bench.rounds import Played, Tally
from bench.sequences import Entity, play

SCOPE = ProjectDomain("p", "d")

PERCENTILES = [
    (list(range(1, 101)), 50.0, 50),
    (list(range(1, 101)), 99.0, 99),
    (list(range(1, 101)), 99.9, 100),
    (list(range(1, 1001)), 99.9, 999),
    ([7], 50.0, 7),
    ([1, 2, 3], 0.0, 1),
    ([1, 2, 3], 100.0, 3),
]


@pytest.mark.parametrize(("values", "percent", "expected_value"), PERCENTILES)
def test_percentile_is_the_nearest_rank(values: list[float], percent: float, expected_value: float) -> None:
    assert percentile(values, percent) == expected_value


def test_percentile_of_no_values_is_nan() -> None:
    assert math.isnan(percentile([], 50))


def test_report_has_rates_failures_and_cpu() -> None:
    tally = Tally(events=[0.001, 0.002], creates=[0.01], in_time=2000, creates_in_time=100)
    tally.errors["/flyteidl.service.AdminService/CreateNodeEvent", 5, "not found"] = 3
    tally.retries["/flyteidl.service.AdminService/CreateTaskEvent", 14] = 4
    text = render(Result("mix, flat out", 10.0, tally, Findings(entities=9, wrong=["x: y"]), {"events": 4.0}))
    for line in (
        "- events accepted: 2000, **200 a second**",
        "- errors: 3; retries: 4; executions given up: 0",
        "  - 3 x CreateNodeEvent, code 5: not found",
        "  - 4 retries of CreateTaskEvent after code 14",
        "- read back: 9 entities, 1 wrong",
        "  - x: y",
        "| event | 1.0 | 2.0 | 2.0 | 2.0 |",
        "| events | 2.000 | 0.40 |",
    ):
        assert line in text.splitlines()


def test_report_of_a_long_run_has_the_rate_of_each_part() -> None:
    tally = Tally(in_time=900, in_parts=[600, 900])
    text = render(Result("mix", 60.0, tally, Findings(entities=1), {}))
    assert "  - in 2 equal parts of the time: 20, 10 a second" in text.splitlines()
    assert "equal parts" not in render(Result("mix", 59.0, tally, Findings(entities=1), {}))


def test_expected_phases_end_with_the_last_accepted_event() -> None:
    single = play(SCOPE, Shape.SINGLE)
    played = Played("x", single, created=True, accepted=len(single.steps))
    assert expected(played) == {step.entity: step.phase for step in single.steps}
    played = Played("x", single, created=True, accepted=4)
    assert expected(played) == {step.entity: step.phase for step in single.steps[:4]}


def test_expected_phases_lack_the_entity_of_a_call_in_doubt() -> None:
    single = play(SCOPE, Shape.SINGLE)
    played = Played("x", single, created=True, accepted=4, doubtful=True)
    assert single.steps[4].entity == Entity("n0")
    assert Entity("n0") not in expected(played)
    assert Entity("n0", is_task=True) in expected(played)
