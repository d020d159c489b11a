"""`python -m bench.outage`: executions stopped for a while under load, and its return.

Every execution is created before, as none can be created while the service is away. Then events are sent at a rate,
each for the execution that has waited longest, so those of one execution follow one another and the rate holds although
callers wait. Every single call must return OK; and when executions is back, all events must be read back in time, in
order.
"""

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.answers import OK
from bench.check import CATCH_UP_SECONDS, Findings, check
from bench.entities import Shape, register
from bench.http2 import Channel
from bench.load import CREATE
from bench.report import responses
from bench.rounds import Played, Rounds, Tally
from bench.run import CONNECTIONS
from bench.sequences import NAME_LENGTH, play
from bench.stack import SCOPE, Stack, running_stack

# The load goes on for so long after the return, so executions catches up under load.
AFTER_SECONDS = 10.0
BEFORE_SECONDS = 5.0
# A caller whose verdict does not come waits for some seconds; meanwhile others must send.
_WAIT_SECONDS = 8.0
# The time of the launcher to stop and start, during which the load goes on.
_COMMANDS_SECONDS = 10.0
_CREATED_AT_ONCE = 16
# A response within this time came with its verdict.
_PROMPT_SECONDS = 1.0
_SHAPE = Shape.SINGLE


@dataclass
class Outcome:
    """The responses of all calls and what was read back; times in seconds after the return of executions."""

    tally: Tally
    findings: Findings
    ends: Findings
    """Read back when every execution had ended; executions may be behind for as long once more."""
    longest: float
    """The seconds of the slowest call."""
    caught_up: float
    """When the last response came that was not prompt. After a verdict all before it in its lane is applied."""
    read_from: float
    """When reading back began."""

    @property
    def problems(self) -> list[str]:
        """Everything that must not happen, one line each."""
        refused = [
            f"{number} x {path.rpartition('/')[2]} returned code {code}"
            for (path, code), number in self.tally.responses.items()
            if code != OK
        ]
        certain = max(self.caught_up, self.read_from)
        late = [f"everything was applied only after {certain:.1f} s"] if certain > CATCH_UP_SECONDS else []
        given_up = [f"{played.name} did not end" for played in self.tally.given_up]
        return [*refused, *late, *given_up, *self.findings.wrong, *self.ends.wrong]


class Outage:
    """One run against `stack`."""

    def __init__(
        self,
        stack: Stack,
        rate: float,
        show: Callable[[str], None],
        *,
        before: float = BEFORE_SECONDS,
        after: float = AFTER_SECONDS,
    ) -> None:
        self._stack = stack
        self._rate = rate
        self._show = show
        self._before, self._after = before, after
        self._channel = Channel("127.0.0.1", stack.port, CONNECTIONS)
        self._tally = Tally()
        self._rounds = Rounds(self._channel, self._tally)
        self._idle: deque[Played] = deque()
        self._waits: list[tuple[float, float]] = []  # time of the response, seconds that it took
        self._over = asyncio.Event()

    async def run(self, seconds: float) -> Outcome:
        """Stop executions for `seconds` and return the outcome."""
        try:
            await register(self._channel, SCOPE, [_SHAPE])
            await self._create(seconds)
            return await self._measure(seconds)
        finally:
            self._channel.close()

    async def _create(self, seconds: float) -> None:
        shape = play(SCOPE, _SHAPE)
        events = (self._before + seconds + _COMMANDS_SECONDS + self._after) * self._rate
        number = int(max(events / len(shape.steps), self._rate * _WAIT_SECONDS))
        run = f"o{time.time_ns() // 1_000_000 % 10**9:09d}"
        self._tally.executions = [Played(f"{run}{index:0{NAME_LENGTH - len(run)}d}", shape) for index in range(number)]
        waiting = iter(self._tally.executions)

        async def row() -> None:
            for played in waiting:
                request = shape.create_for(played.name.encode())
                played.created = await self._rounds.send(played, CREATE, request)
                self._idle.append(played)

        await asyncio.gather(*(row() for _ in range(_CREATED_AT_ONCE)))
        self._show(f"{number} executions created")

    async def _measure(self, seconds: float) -> Outcome:
        sending = asyncio.create_task(self._send_at_rate())
        await asyncio.sleep(self._before)
        parts = self._stack.replicas("executions")
        for part in parts:
            await asyncio.to_thread(self._stack.launcher, "stop", part)
        await asyncio.sleep(seconds)
        await asyncio.gather(*(asyncio.to_thread(self._stack.launcher, "start", part) for part in parts))
        back = time.perf_counter()
        await asyncio.sleep(self._after)
        self._over.set()
        await sending
        read_from = time.perf_counter() - back
        patience = CATCH_UP_SECONDS - read_from
        findings = await check(self._channel, SCOPE, self._tally.executions, patience=patience)
        late = [moment for moment, waited in self._waits if waited > _PROMPT_SECONDS]
        await asyncio.gather(*(self._finish() for _ in range(_CREATED_AT_ONCE)))
        ends = await check(self._channel, SCOPE, self._tally.executions, patience=CATCH_UP_SECONDS)
        longest = max(waited for _, waited in self._waits)
        return Outcome(self._tally, findings, ends, longest, max(late, default=back) - back, read_from)

    async def _send_at_rate(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        due = time.perf_counter()
        while not self._over.is_set():
            due += 1 / self._rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            if not self._idle:
                raise RuntimeError("every execution waits for a response: the rate does not hold")
            task = asyncio.create_task(self._send(self._idle.popleft()))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _send(self, played: Played) -> None:
        began = time.perf_counter()
        if await self._next(played):
            self._waits.append((time.perf_counter(), time.perf_counter() - began))

    async def _next(self, played: Played) -> bool:
        """Send the next event of an execution and queue it again unless that was the last; return False on failure."""
        step = played.play.steps[played.accepted]
        if not await self._rounds.send(played, step.path, step.of(played.name.encode()), ends=step.ends):
            return False
        played.accepted += 1
        if not played.ended:
            self._idle.append(played)
        return True

    async def _finish(self) -> None:
        while self._idle:
            await self._next(self._idle.popleft())


def report(outcome: Outcome) -> str:
    """Return a summary for people."""
    problems = outcome.problems
    lines = [
        "",
        *responses(outcome.tally),
        f"slowest call: {outcome.longest:.1f} s",
        f"verdicts come promptly again, under load: {outcome.caught_up:.1f} s after the return",
        f"reading back began {outcome.read_from:.1f} s after the return",
        f"read back then: {outcome.findings.entities} entities, {len(outcome.findings.wrong)} wrong",
        f"read back at the end: {outcome.ends.entities} entities, {len(outcome.ends.wrong)} wrong",
        f"{len(problems)} problems",
        *(f"  {problem}" for problem in problems),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run once on a sandbox of its own; return the exit code: 1 when there is any problem."""
    parser = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="that executions is away")
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--replicas", type=int, default=1, help="of registry, of events and of executions")
    parser.add_argument("--dir", type=Path, help="folder of the sandbox, which stays then; otherwise a temporary one")
    arguments = parser.parse_args()
    with running_stack(replicas=arguments.replicas, folder=arguments.dir) as stack:
        _show(f"executions away for {arguments.seconds:.0f} s under {arguments.rate:.0f} events/s")
        outcome = uvloop.run(Outage(stack, arguments.rate, _show).run(arguments.seconds))
    _show(report(outcome))
    return int(bool(outcome.problems))


def _show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
