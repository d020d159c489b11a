"""`make chaos` and `make outage` in short, with two replicas of events and two of executions."""

import random
from collections.abc import Iterator

import pytest

from bench.chaos import PARTS, Act, Chaos
from bench.entities import Shape
from bench.outage import Outage
from bench.stack import Stack, running_stack

SEED = 3
# What two busy cores carry beside everything else that runs on them.
CHAOS_RATE = 200.0
# About as long as five kills take with these pauses.
CHAOS_SECONDS = 25.0
PAUSE_SECONDS = (0.5, 2.0)
# Without the fan-outs, whose hundreds of events one after the other would go on long after the rest.
SHAPES = (Shape.SINGLE, Shape.DYNAMIC, Shape.MAP)
# Senders wait the 5 s of the verdict wait twice and again.
OUTAGE_SECONDS = 12.0
OUTAGE_RATE = 40.0
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 6.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A sandbox apart, as what happens to its parts is no business of other tests."""
    with running_stack(replicas=2) as running:
        yield running


async def test_parts_that_are_killed_under_load_cost_no_event_and_no_phase(stack: Stack) -> None:
    chance = random.Random(SEED)  # noqa: S311  # it must come again as it was
    acts = [Act(chance.choice(stack.replicas(name))) for name in chance.sample(PARTS, len(PARTS))]
    chaos = Chaos(stack, iter(acts), chance, print, SHAPES, PAUSE_SECONDS)
    outcome = await chaos.run(seconds=CHAOS_SECONDS, rate=CHAOS_RATE)
    assert outcome.problems == []
    assert outcome.acts == acts
    assert outcome.findings.entities > CHAOS_RATE * CHAOS_SECONDS / 10


async def test_while_executions_is_away_senders_hear_ok_and_afterwards_everything_is_applied(stack: Stack) -> None:
    outage = Outage(stack, OUTAGE_RATE, print, before=BEFORE_SECONDS, after=AFTER_SECONDS)
    outcome = await outage.run(OUTAGE_SECONDS)
    assert outcome.problems == []
    assert outcome.longest > 1  # some waited in vain for their verdicts
