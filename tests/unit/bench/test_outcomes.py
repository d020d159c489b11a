"""The problems of chaos and outage, and the order of faults."""

import random
from itertools import islice

import pytest

from bench import outage
from bench.chaos import Fault, Outcome, endless, report
from bench.check import Findings, _Reader
from bench.entities import ProjectDomain, Shape
from bench.http2 import Channel
from bench.rounds import Played, Tally
from bench.sequences import POD_REASONS, Entity, play

SCOPE = ProjectDomain("p", "d")
SINGLE = play(SCOPE, Shape.SINGLE)
PATH = "/flyteidl.service.AdminService/CreateNodeEvent"
TASK = Entity("n0", is_task=True)
REASONS = ["task submitted to K8s", *POD_REASONS]


def ended() -> Played:
    return Played("x", SINGLE, created=True, accepted=len(SINGLE.steps))


@pytest.mark.parametrize("code", [4, 8, 14])
def test_failed_round_is_no_problem_as_long_as_the_engine_goes_on(code: int) -> None:
    tally = Tally(executions=[ended()])
    tally.errors[PATH, code, "away"] = 3
    outcome = Outcome([Fault("events")], tally, Findings())
    assert outcome.problems == []
    assert report(outcome).endswith("0 problems\n")


@pytest.mark.parametrize("code", [2, 3, 5, 6, 9, 12, 13, 16])
def test_response_with_another_code_is_a_problem(code: int) -> None:
    tally = Tally(executions=[ended()])
    tally.errors[PATH, code, "no"] = 3
    outcome = Outcome([], tally, Findings())
    assert outcome.problems == [f"3 x CreateNodeEvent returned code {code}: no"]
    assert outcome.problems[0] in report(outcome)


@pytest.mark.parametrize("accepted", [0, len(SINGLE.steps) - 1])
def test_execution_that_does_not_end_is_a_problem(accepted: int) -> None:
    tally = Tally(executions=[Played("x", SINGLE, created=True, accepted=accepted, failed_rounds=11)])
    (problem,) = Outcome([], tally, Findings()).problems
    assert problem == f"x did not end: {accepted} of {len(SINGLE.steps)} events, 11 failed rounds"


def test_entity_that_reads_back_wrong_is_a_problem() -> None:
    assert Outcome([], Tally(), Findings(wrong=["x: y"])).problems == ["x: y"]


def test_faults_come_in_random_order_and_each_as_often_as_the_others() -> None:
    faults = [Fault(part) for part in "abcde"]
    twice = list(islice(endless(faults, random.Random(1)), 10))  # noqa: S311  # the same in every run
    assert sorted(map(str, twice[:5])) == sorted(map(str, twice[5:])) == sorted(map(str, faults))
    assert twice[:5] != twice[5:]


@pytest.mark.parametrize(
    ("reasons", "wrong"),
    [(REASONS, 0), ([*REASONS, REASONS[1]], 1), ([REASONS[0], REASONS[2], REASONS[1]], 1), (REASONS[:2], 1), ([], 1)],
)
async def test_reason_twice_or_in_another_order_is_wrong(reasons: list[str], wrong: int) -> None:
    findings = Findings()
    reader = _Reader(Channel("127.0.0.1", 1, 1), SCOPE, ended(), findings)
    reader._compare_reasons(TASK, reasons)
    assert len(findings.wrong) == wrong


def outage_outcome(caught_up: float = 1, read_from: float = 10, code: int = 0) -> outage.Outcome:
    tally = Tally(executions=[ended()])
    tally.responses[PATH, code] = 7
    return outage.Outcome(tally, Findings(), Findings(), 6.0, caught_up, read_from)


def test_outage_without_failed_calls_is_no_problem() -> None:
    assert outage_outcome().problems == []


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (outage_outcome(code=14), "7 x CreateNodeEvent returned code 14"),
        (outage_outcome(code=6), "7 x CreateNodeEvent returned code 6"),
        (outage_outcome(caught_up=31), "everything was applied only after 31.0 s"),
        (outage_outcome(read_from=32), "everything was applied only after 32.0 s"),
    ],
)
def test_outage_with_a_failed_call_or_a_late_return_is_a_problem(outcome: outage.Outcome, problem: str) -> None:
    assert outcome.problems == [problem]
    assert problem in outage.report(outcome)
