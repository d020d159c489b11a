"""`python -m bench --target HOST:PORT`: load on any AdminService, and the report."""

import argparse
import sys
import time
from pathlib import Path

import uvloop

from bench.entities import ProjectDomain, RefusedError, Shape
from bench.processes import sandbox_pids
from bench.report import describe_machine, describe_sizes, render
from bench.run import Target, plays, run

MIX = "mix"


def main() -> int:
    """Run once; return the exit code: 1 when a call failed or something reads back wrong."""
    arguments = _arguments()
    host, _, port = arguments.target.rpartition(":")
    pids = sandbox_pids(arguments.state) if arguments.state else {}
    pids |= {name: int(pid) for name, _, pid in (text.partition("=") for text in arguments.pid)}
    target = Target(host, int(port), ProjectDomain(arguments.project, arguments.domain), pids)
    shapes = list(Shape) if arguments.shape == MIX else [Shape(arguments.shape)]
    rate = None if arguments.rate == "max" else float(arguments.rate)
    try:
        running = run(
            target,
            shapes,
            seconds=arguments.seconds,
            rate=rate,
            in_flight=arguments.in_flight,
            run_id=int(time.time()),
        )
        result = uvloop.run(running)
    except RefusedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    report = "\n".join((*describe_machine(), "", *describe_sizes(plays(target.scope, shapes)), "", render(result)))
    if arguments.out:
        arguments.out.write_text(report)
    sys.stdout.write(report)
    return int(bool(result.tally.errors or result.tally.given_up or result.findings.wrong))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--target", required=True, help="host:port of an AdminService, clear text")
    parser.add_argument("--rate", default="max", help="events a second, or max for flat out")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--shape", choices=[*Shape, MIX], default=MIX)
    parser.add_argument("--in-flight", type=int, default=128, help="executions at a time when flat out")
    parser.add_argument("--project", default="flytesnacks")
    parser.add_argument("--domain", default="development")
    parser.add_argument("--state", type=Path, help="state.json of a sandbox, for the CPU of its parts")
    parser.add_argument("--pid", action="append", default=[], metavar="NAME=PID", help="a local server process")
    parser.add_argument("--out", type=Path, help="file for the report, in addition to standard output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
