"""One run: register, play, read back."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.check import CATCH_UP_SECONDS, check
from bench.entities import ProjectDomain, Shape, register
from bench.http2 import Channel
from bench.http2_connection import Headers
from bench.load import Load
from bench.processes import cpu_seconds
from bench.report import Result, pace
from bench.sequences import Play, play

CONNECTIONS = 4
# Names of executions may not repeat between runs against one server, and are as short as the clock allows.
_RUN_ID_DIGITS = 9


@dataclass(frozen=True)
class Target:
    """A server, and those of its processes that run on this machine: process ids by name."""

    host: str
    port: int
    scope: ProjectDomain
    pids: Mapping[str, int] = field(default_factory=dict)
    headers: Headers = ()
    """Headers of every call, such as a token."""


def plays(scope: ProjectDomain, shapes: Sequence[Shape]) -> list[Play]:
    """Return the events of an execution of each of `shapes`."""
    return [play(scope, shape) for shape in shapes]


async def run(
    target: Target, shapes: Sequence[Shape], *, seconds: float, rate: float | None, in_flight: int, run_id: int
) -> Result:
    """Play `shapes` for `seconds`, at `rate` events a second or flat out; raise RefusedError."""
    channel = Channel(target.host, target.port, CONNECTIONS, target.headers)
    try:
        await register(channel, target.scope, shapes)
        load = Load(channel, plays(target.scope, shapes), seconds, f"{run_id % 10**_RUN_ID_DIGITS:0{_RUN_ID_DIGITS}d}")
        speed = pace()
        before = cpu_seconds(target.pids)
        after = dict(before)
        # The objects made so far need no more garbage collection during the measurement.
        gc.collect()
        gc.freeze()
        if rate is None:
            await load.flat_out(in_flight, lambda: after.update(cpu_seconds(target.pids)))
            title = f"{_named(shapes)}, flat out, {in_flight} executions at a time"
        else:
            await load.at_rate(rate, lambda: after.update(cpu_seconds(target.pids)))
            title = f"{_named(shapes)}, {rate:g} events/s"
        findings = await check(channel, target.scope, load.tally.executions, patience=CATCH_UP_SECONDS)
    finally:
        channel.close()
    return Result(title, seconds, load.tally, findings, {name: after[name] - before[name] for name in before}, speed)


def _named(shapes: Sequence[Shape]) -> str:
    return "mix" if len(shapes) > 1 else shapes[0].value
