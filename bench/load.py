"""The load on a server: executions at a rate, or flat out.

At a rate the load is open: the due time of every event of every execution is fixed before the clock starts, and a slow
server changes none of it. Latency counts from the due time, not from when the event was sent, so waiting behind a slow
response is in the numbers (no coordinated omission). Events of one execution follow one another, as the engine sends
and repeats them (`rounds`); they are due at a steady pace, and executions follow each other in as many rows as that
pace needs for the rate.

Flat out, a number of executions is always under way and each sends its next event after the response to the last.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from bench.entities import SERVICE, Shape
from bench.http2 import Channel
from bench.rounds import Played, Rounds, Tally
from bench.sequences import NAME_LENGTH, Play

CREATE = SERVICE + "CreateExecution"

# Executions of each shape among a hundred. Counted in events a fan-out weighs as much as sixty single tasks, so that
# a bit more than half of the events come from fan-outs and a bit more than a quarter from single tasks.
MIX = {Shape.SINGLE: 90, Shape.FANOUT: 3, Shape.DYNAMIC: 5, Shape.MAP: 2}

# Events of one execution a second at a rate: an engine's evaluation rounds are no faster for long.
PACE = 20.0
# Equal parts of the time; their rates show whether a server stays as fast as it was at first.
PARTS = 10
# Longer than the events of a whole fan-out take, one after the other.
DRAIN_SECONDS = 120.0


def mixed(plays: Sequence[Play]) -> Iterator[Play]:
    """Yield executions without end, in the proportions of the mix, each shape spread evenly."""
    credit = dict.fromkeys((play.shape for play in plays), 0.0)
    total = sum(MIX[shape] for shape in credit)
    while True:
        for shape in credit:
            credit[shape] += MIX[shape] / total
        chosen = max(plays, key=lambda play: credit[play.shape])
        credit[chosen.shape] -= 1
        yield chosen


class Load:
    """A run of `seconds` against `channel`. `run_id` is in the names of its executions.

    Executions under way when the time is over may take `drain` seconds to end.
    """

    def __init__(
        self, channel: Channel, plays: Sequence[Play], seconds: float, run_id: str, *, drain: float = DRAIN_SECONDS
    ) -> None:
        self._next_play = mixed(plays)
        self._seconds = seconds
        self._drain = drain
        self._names = (f"b{run_id}{number:0{NAME_LENGTH - 1 - len(run_id)}d}" for number in count())
        self._clock = time.perf_counter  # uvloop's own clock has whole ms and is constant for a turn of the loop
        self._end = 0.0
        self.tally = Tally()
        self._rounds = Rounds(channel, self.tally)

    async def at_rate(self, rate: float, at_end: Callable[[], None]) -> None:
        """Send `rate` events a second; call `at_end` when the time is over, then wait for executions under way."""
        rows = max(1, round(rate / PACE))
        gap = rows / rate
        begin = self._clock()
        self._end = begin + self._seconds
        async with self._running(at_end) as tasks:
            # The row that is free first takes the next execution.
            free = [begin + row / rate for row in range(rows)]
            while (due := min(free)) < self._end:
                play = next(self._next_play)
                # An execution has one call more than it has events: its creation.
                free[free.index(due)] = due + gap * (len(play.steps) + 1)
                await self._until(due)
                tasks.append(asyncio.create_task(self._play(play, due, gap)))

    async def flat_out(self, in_flight: int, at_end: Callable[[], None]) -> None:
        """Keep `in_flight` executions under way; call `at_end` when the time is over, then wait for their ends."""
        self._end = self._clock() + self._seconds

        async def row() -> None:
            while self._clock() < self._end:
                await self._play(next(self._next_play), None, 0)

        async with self._running(at_end) as tasks:
            tasks += [asyncio.create_task(row()) for _ in range(in_flight)]

    def _running(self, at_end: Callable[[], None]) -> "_Running":
        loop = asyncio.get_running_loop()
        for part in range(1, PARTS + 1):
            loop.call_later(self._seconds * part / PARTS, lambda: self.tally.in_parts.append(self.tally.in_time))
        return _Running(self._end - self._clock(), at_end, self._drain)

    async def _play(self, play: Play, due: float | None, gap: float) -> None:
        """Play one execution; without `due` each call goes out as soon as it can."""
        name = next(self._names)
        encoded = name.encode()
        played = Played(name, play)
        self.tally.executions.append(played)
        if not await self._send(played, CREATE, play.create_for(encoded), due, self.tally.creates):
            return
        played.created = True
        self.tally.creates_in_time += self._clock() < self._end
        for step in play.steps:
            if due is not None:
                due = due + gap if due + gap < self._end else None  # after the end of the time without pauses
                await self._until(due)
            request = step.of(encoded)
            self.tally.bytes_sent += len(request)
            if not await self._send(played, step.path, request, due, self.tally.events, ends=step.ends):
                return
            played.accepted += 1
            self.tally.in_time += self._clock() < self._end

    async def _send(
        self,
        played: Played,
        path: str,
        request: bytes,
        due: float | None,
        latencies: list[float],
        *,
        ends: bool = False,
    ) -> bool:
        began = self._clock() if due is None else due
        accepted = await self._rounds.send(played, path, request, ends=ends)
        if accepted and began < self._end:
            latencies.append(self._clock() - began)
        return accepted

    async def _until(self, due: float | None) -> None:
        if due is not None and (wait := due - self._clock()) > 0:
            await asyncio.sleep(wait)


class _Running:
    """The tasks of a run: a context manager that waits for them at its end, for `drain` seconds at most."""

    def __init__(self, seconds: float, at_end: Callable[[], None], drain: float) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        self._at_end = loop.call_later(seconds, at_end)
        self._last = loop.time() + seconds + drain

    async def __aenter__(self) -> list[asyncio.Task[None]]:
        return self._tasks

    async def __aexit__(self, *_raised: object) -> None:
        patience = self._last - asyncio.get_running_loop().time()
        _, late = await asyncio.wait(self._tasks, timeout=max(patience, 0))
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=bool(late))
