"""`python -m bench.chaos`: load on a sandbox whose parts are killed and frozen, and a check of all events.

One part at a time, in random order, is killed as by a crash or frozen for a while as on a machine that swaps; the next
one follows only when all are ready again. The load behaves as engines do (`rounds`). At the end every event that was
accepted must be read back, every execution must have ended, and no response may be one that engines take for a fault
of the workflow.
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
from bench.report import responses
from bench.rounds import Tally
from bench.run import CONNECTIONS, plays
from bench.stack import SCOPE, Stack, running_stack

PARTS = ("events", "executions", "nats", "postgres", "envoy")
FROZEN = ("events", "executions")
# Kills of a part for each time that one is frozen, which takes longer than all of them.
KILLS = 3
# Longer than any timeout of those that wait for the frozen process: the stream, the database, the gateway.
FREEZE_SECONDS = 20.0
# Time to catch up, and then some without a fault.
PAUSE_SECONDS = (1.0, 5.0)
# The backlog from the time without some parts is sent at the end; on a small machine that takes long.
DRAIN_SECONDS = 900.0
# Events that were accepted while executions was frozen or behind must be applied within this time after the load.
SETTLE_SECONDS = 120.0
# Codes that calls may return while a part is away; each of them is only a failed try.
TOLERATED = frozenset((UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED))


@dataclass(frozen=True)
class Fault:
    """A fault to inject: a part is killed, or frozen for some seconds."""

    part: str
    frozen: float = 0.0

    def __str__(self) -> str:
        return f"{self.part} frozen for {self.frozen:.0f} s" if self.frozen else f"{self.part} killed"


@dataclass(frozen=True)
class Outcome:
    """The faults injected, the responses of all calls, and what was read back."""

    faults: Sequence[Fault]
    tally: Tally
    findings: Findings

    @property
    def problems(self) -> list[str]:
        """Everything that must not happen, one line each."""
        given_up = [
            f"{played.name} did not end: {played.accepted} of {len(played.play.steps)} events,"
            f" {played.failed_rounds} failed rounds"
            for played in self.tally.given_up
        ]
        refused = [
            f"{number} x {path.rpartition('/')[2]} returned code {code}: {message}"
            for (path, code, message), number in self.tally.errors.items()
            if code not in TOLERATED
        ]
        return [*refused, *given_up, *self.findings.wrong]


def all_faults(stack: Stack, *, freeze: float = FREEZE_SECONDS) -> list[Fault]:
    """Return KILLS kills of each part, and for each part of FROZEN a freeze of `freeze` seconds unless that is 0."""
    kills = [Fault(part) for name in PARTS for part in stack.replicas(name)]
    return kills * KILLS + [Fault(part, freeze) for name in FROZEN for part in stack.replicas(name) if freeze]


def endless(faults: Sequence[Fault], rng: random.Random) -> Iterator[Fault]:
    """Yield all of `faults` in random order, again and again."""
    while True:
        yield from rng.sample(faults, len(faults))


@dataclass
class Chaos:
    """One run against `stack`; `rng` chooses the pauses between `faults`."""

    stack: Stack
    faults: Iterator[Fault]
    rng: random.Random
    show: Callable[[str], None]
    shapes: Sequence[Shape] = tuple(Shape)
    pause: tuple[float, float] = PAUSE_SECONDS
    done: list[Fault] = field(default_factory=list)

    async def run(self, *, seconds: float, rate: float) -> Outcome:
        """Send `rate` events a second for `seconds` while the faults are injected one by one; then read all back."""
        channel = Channel("127.0.0.1", self.stack.port, CONNECTIONS)
        over = asyncio.Event()
        try:
            await register(channel, SCOPE, self.shapes)
            run_id = f"{time.time_ns() // 1_000_000 % 10**9:09d}"
            load = Load(channel, plays(SCOPE, self.shapes), seconds, run_id, drain=DRAIN_SECONDS)
            injecting = asyncio.create_task(self._inject(over))
            await load.at_rate(rate, over.set)
            over.set()
            await injecting
            await self.stack.until_ready()
            findings = await check(channel, SCOPE, load.tally.executions, patience=SETTLE_SECONDS)
        finally:
            channel.close()
        return Outcome(self.done, load.tally, findings)

    async def _inject(self, over: asyncio.Event) -> None:
        began = time.monotonic()
        for fault in self.faults:
            if await _happens(over, within=self.rng.uniform(*self.pause)):
                return
            self.show(f"{time.monotonic() - began:6.1f} s  {fault}")
            self.done.append(fault)
            if fault.frozen:
                self.stack.signal(fault.part, signal.SIGSTOP)
                await _happens(over, within=fault.frozen)
                self.stack.signal(fault.part, signal.SIGCONT)
            else:
                pid = self.stack.signal(fault.part, signal.SIGKILL)
                await self.stack.until_ready(but=pid)


async def _happens(event: asyncio.Event, *, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True


def report(outcome: Outcome) -> str:
    """Return a summary for people."""
    tally, problems = outcome.tally, outcome.problems
    frozen = sum(bool(fault.frozen) for fault in outcome.faults)
    accepted = sum(played.accepted for played in tally.executions)
    lines = [
        "",
        f"{len(outcome.faults) - frozen} times killed, {frozen} times frozen",
        f"{len(tally.executions)} executions with {accepted} events accepted",
        *responses(tally),
        f"read back: {outcome.findings.entities} entities, {len(outcome.findings.wrong)} wrong",
        f"{len(problems)} problems",
        *(f"  {problem}" for problem in problems),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run once on a sandbox of its own; return the exit code: 1 when there is any problem."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=500.0, help="events a second")
    parser.add_argument("--replicas", type=int, default=1, help="of registry, of events and of executions")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat its faults")
    parser.add_argument("--freeze", type=float, default=FREEZE_SECONDS, help="seconds that a part is frozen; 0: none")
    parser.add_argument("--dir", type=Path, help="folder of the sandbox, which stays then; otherwise a temporary one")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    rng = random.Random(seed)  # noqa: S311  # a run must be repeatable
    with running_stack(replicas=arguments.replicas, folder=arguments.dir) as stack:
        _show(f"chaos for {arguments.seconds:.0f} s at {arguments.rate:.0f} events/s, seed {seed}")
        faults = endless(all_faults(stack, freeze=arguments.freeze), rng)
        outcome = uvloop.run(Chaos(stack, faults, rng, _show).run(seconds=arguments.seconds, rate=arguments.rate))
    _show(report(outcome))
    return int(bool(outcome.problems))


def _show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
