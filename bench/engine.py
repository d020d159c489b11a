"""`python -m bench.engine`: what the local engine adds to the own time of tasks.

A sandbox of its own runs trivial tasks of flytekit: twenty one after the other, then array nodes of 200 and of 1,000.
The own time of a task is that of its process, from its fork until it is gone; the engine writes both next to its log.
The overhead of a task is the time for which its core was idle before it: since the task before it in a chain ended, or
since a core became free while others waited.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import percentile
from bench.stack import REPOSITORY, Stack, running_stack

_FLOWS = Path(__file__).with_name("flows")
_CHAIN = 20
_SIZES = (200, 1000)
_MOST_SECONDS = 600
_HALF = 50.0
# The targets: median overhead of a task in seconds, and the time of a whole array as a multiple of own time / cores.
_OVERHEAD_SECONDS = 0.05
_RATIO = 1.3


@dataclass(frozen=True)
class Measured:
    """The processes of one execution.

    Attributes:
        name: What ran.
        cores: How many tasks run at a time.
        times: Start and end of each process, as Unix time, by their start.
    """

    name: str
    cores: int
    times: Sequence[tuple[float, float]]

    @property
    def own(self) -> float:
        """The own time of all tasks, in seconds."""
        return sum(end - start for start, end in self.times)

    @property
    def whole(self) -> float:
        """From the first start to the last end, in seconds."""
        return max(end for _, end in self.times) - self.times[0][0]

    @property
    def ratio(self) -> float:
        """The whole as a multiple of own time / cores."""
        return self.whole / (self.own / self.cores)

    @property
    def overhead(self) -> float:
        """The median overhead of a task, in seconds."""
        ends = sorted(end for _, end in self.times)
        starts = [start for start, _ in self.times[self.cores :]]
        return percentile(sorted(max(0.0, start - end) for start, end in zip(starts, ends, strict=False)), _HALF)

    def row(self) -> str:
        """Return a row of the report."""
        mean = 1000 * self.own / len(self.times)
        return (
            f"| {self.name} | {len(self.times)} | {mean:.0f} | {1000 * self.overhead:.1f} | {self.whole:.1f} "
            f"| {self.ratio:.2f} |"
        )


def main(arguments: Sequence[str]) -> int:
    """Measure and write the report; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--python", type=Path, default=REPOSITORY / ".venv-client" / "bin" / "python")
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES)
    options = parser.parse_args(arguments)
    os.environ["SANDBOX_TASK_PYTHON"] = str(options.python.absolute())
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    with running_stack(engine="local") as stack:
        chain = _run(stack, options.python, "chain", {})
        measured = [Measured("one after the other", 1, chain)]
        for size in options.sizes:
            times = _run(stack, options.python, "wide", {"numbers": list(range(size))})
            measured.append(Measured(f"array of {size}", cores, times))
    text = _report(measured, cores, load)
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text)
    missed = any(each.overhead > _OVERHEAD_SECONDS for each in measured) or any(
        each.ratio > _RATIO for each in measured[1:]
    )
    return 1 if missed else 0


def _run(stack: Stack, python: Path, workflow: str, inputs: dict[str, Any]) -> list[tuple[float, float]]:
    """Launch a workflow, wait until it has ended, and return the times of its processes."""
    options = [text for name, value in inputs.items() for text in (f"--{name}", json.dumps(value))]
    launched = subprocess.run(  # noqa: S603 - flytekit, as its users run it
        [python.with_name("pyflyte"), "run", "--remote", "trivial.py", workflow, *options],
        cwd=_FLOWS,
        env={**os.environ, "FLYTECTL_CONFIG": str(stack.folder / "config.yaml"), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=True,
    )
    name = launched.stdout.partition("/executions/")[2].split()[0]
    folder = stack.folder / "engine"
    end = time.monotonic() + _MOST_SECONDS
    # The folder of the run is there until it ends, those of attempts stay.
    while not any((folder / "attempts").glob(f"*/*/{name}")) or any((folder / "runs").glob(f"*/*/{name}")):
        if time.monotonic() > end:
            raise TimeoutError(f"{name} did not end")
        time.sleep(0.1)
    exits = [json.loads(file.read_text()) for file in (folder / "attempts").glob(f"*/*/{name}/*/*/exit")]
    return sorted((each["started_at"], each["ended_at"]) for each in exits)


def _report(measured: Sequence[Measured], cores: int, load: float) -> str:
    head = "| tasks | number | own time, mean, ms | overhead, p50, ms | whole, s | whole / (own time / cores) |"
    return "\n".join(
        (
            "# Results of `make bench-engine`",
            "",
            f"Trivial tasks of flytekit in a fresh sandbox, {cores} cores; what is measured is in `bench/engine.py`.",
            f"Before the run the load average of the machine was {load:.1f}.",
            "",
            head,
            "|---|---|---|---|---|---|",
            *(each.row() for each in measured),
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
