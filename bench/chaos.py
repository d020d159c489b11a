"""`python -m bench.chaos`: load on a sandbox whose parts are killed and frozen, and what that did to the events.

One part at a time, in random order and never two before all are ready again, is killed as by a crash, or stands still
for a while as on a machine that swaps. The load behaves as engines do (`rounds`). At the end every event that was
accepted must be read back, every execution must have come to its end, and no answer may be one that engines take for a
fault of the workflow.
"""

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.answers import DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE
from bench.check import Findings, check
from bench.entities import Shape, register
from bench.http2 import Channel
from bench.load import Load
from bench.report import answers
from bench.rounds import Tally
from bench.run import CONNECTIONS, plays
from bench.stack import PLACE, Stack, running_stack

PARTS = ("events", "executions", "nats", "postgres", "envoy")
FROZEN = ("events", "executions")
# For each time that a part is frozen, which takes longer than all of them.
KILLS = 3
# Longer than the patience of everybody who waits for the frozen process: the stream, the database, the gateway.
FREEZE_SECONDS = 20.0
# Time to work off what has waited, and then some in which all is well.
PAUSE_SECONDS = (1.0, 5.0)
# What waited while parts were away is worked off in the end, on a small machine not quickly.
DRAIN_SECONDS = 900.0
# What was accepted while executions stood still or fell behind must be applied within this time after the load.
SETTLE_SECONDS = 120.0
# What a call may be answered while a part is away; each of them is only a failed try.
TOLERATED = frozenset((UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED))


@dataclass(frozen=True)
class Act:
    """What is done to a part: killed, or frozen for so many seconds."""

    part: str
    frozen: float = 0.0

    def __str__(self) -> str:
        return f"{self.part} frozen for {self.frozen:.0f} s" if self.frozen else f"{self.part} killed"


@dataclass(frozen=True)
class Outcome:
    """What was done, what was answered, what was read back."""

    acts: Sequence[Act]
    tally: Tally
    findings: Findings

    @property
    def problems(self) -> list[str]:
        """All that must not be."""
        given_up = [
            f"{played.name} did not come to its end: {played.accepted} of {len(played.play.steps)} events,"
            f" {played.failed_rounds} failed rounds"
            for played in self.tally.given_up
        ]
        refused = [
            f"{number} x {path.rpartition('/')[2]} was answered with code {code}: {message}"
            for (path, code, message), number in self.tally.errors.items()
            if code not in TOLERATED
        ]
        return [*refused, *given_up, *self.findings.wrong]


def every_act(stack: Stack, *, freeze: float = FREEZE_SECONDS) -> list[Act]:
    """Some kills of each part, and `freeze` seconds of standing still for each part of FROZEN unless that is 0."""
    kills = [Act(part) for name in PARTS for part in stack.replicas(name)]
    return kills * KILLS + [Act(part, freeze) for name in FROZEN for part in stack.replicas(name) if freeze]


def for_ever(acts: Sequence[Act], chance: random.Random) -> Iterator[Act]:
    """All of `acts` in random order, again and again."""
    while True:
        yield from chance.sample(acts, len(acts))


@dataclass
class Chaos:
    """One run against `stack`; `chance` decides about the pauses between `acts`."""

    stack: Stack
    acts: Iterator[Act]
    chance: random.Random
    say: Callable[[str], None]
    shapes: Sequence[Shape] = tuple(Shape)
    pause: tuple[float, float] = PAUSE_SECONDS
    done: list[Act] = field(default_factory=list)

    async def run(self, *, seconds: float, rate: float) -> Outcome:
        """Load at `rate` events a second for `seconds` while the acts are done one by one; then read all back."""
        channel = Channel("127.0.0.1", self.stack.port, CONNECTIONS)
        over = asyncio.Event()
        try:
            await register(channel, PLACE, self.shapes)
            run_id = f"{time.time_ns() // 1_000_000 % 10**9:09d}"
            load = Load(channel, plays(PLACE, self.shapes), seconds, run_id, drain=DRAIN_SECONDS)
            acting = asyncio.create_task(self._act(over))
            await load.at_rate(rate, over.set)
            over.set()
            await acting
            await self.stack.until_ready()
            findings = await check(channel, PLACE, load.tally.executions, patience=SETTLE_SECONDS)
        finally:
            channel.close()
        return Outcome(self.done, load.tally, findings)

    async def _act(self, over: asyncio.Event) -> None:
        began = time.monotonic()
        for act in self.acts:
            if await _happens(over, within=self.chance.uniform(*self.pause)):
                return
            self.say(f"{time.monotonic() - began:6.1f} s  {act}")
            self.done.append(act)
            if act.frozen:
                self.stack.signal(act.part, signal.SIGSTOP)
                await _happens(over, within=act.frozen)
                self.stack.signal(act.part, signal.SIGCONT)
            else:
                pid = self.stack.signal(act.part, signal.SIGKILL)
                await self.stack.until_ready(but=pid)


async def _happens(event: asyncio.Event, *, within: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), within)
    except TimeoutError:
        return False
    return True


def report(outcome: Outcome) -> str:
    """What there is to say, for people."""
    tally, problems = outcome.tally, outcome.problems
    frozen = sum(bool(act.frozen) for act in outcome.acts)
    accepted = sum(played.accepted for played in tally.executions)
    lines = [
        "",
        f"{len(outcome.acts) - frozen} times killed, {frozen} times frozen",
        f"{len(tally.executions)} executions with {accepted} events accepted",
        *answers(tally),
        f"read back: {outcome.findings.entities} entities, {len(outcome.findings.wrong)} wrong",
        f"{len(problems)} problems",
        *(f"  {problem}" for problem in problems),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run once on a sandbox of its own; answers the exit code: 1 when there is any problem."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=500.0, help="events a second")
    parser.add_argument("--replicas", type=int, default=1, help="of registry, of events and of executions")
    parser.add_argument("--seed", type=int, default=None, help="of a run whose acts are to come again")
    parser.add_argument(
        "--freeze", type=float, default=FREEZE_SECONDS, help="seconds that a part stands still; 0: none"
    )
    parser.add_argument("--dir", type=Path, help="folder of the sandbox, which then stays; otherwise one that goes")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    chance = random.Random(seed)  # noqa: S311  # it must be possible to do it again
    with running_stack(replicas=arguments.replicas, folder=arguments.dir) as stack:
        _say(f"chaos for {arguments.seconds:.0f} s at {arguments.rate:.0f} events/s, seed {seed}")
        acts = for_ever(every_act(stack, freeze=arguments.freeze), chance)
        outcome = uvloop.run(Chaos(stack, acts, chance, _say).run(seconds=arguments.seconds, rate=arguments.rate))
    _say(report(outcome))
    return int(bool(outcome.problems))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
