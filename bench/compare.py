"""`python -m bench.compare --base COMMIT --out FILE`: this checkout compared with another commit of the repository.

Both stacks run at the same time and the same generator loads them in turn, in a round base first, in the next this
checkout first: the speed of a machine drifts by a third within minutes, so only neighbouring runs compare. Both run in
this environment; a base with other locked versions is measured with today's.
"""

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import uvloop

from bench.compare_runs import measurements, prepare
from bench.report import describe_machine
from bench.stack import REPOSITORY, Stack, running_stack

BASE, THIS = "base", "this"
# Values of each round, by stack.
Rounds = Mapping[str, Sequence[float]]


def main() -> int:
    """Compare and write the report; exit with 1 when a call fails."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--base", required=True, help="commit to compare with")
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each load lasts")
    arguments = parser.parse_args()
    with ExitStack() as opened:
        checkout = Path(opened.enter_context(TemporaryDirectory(prefix="fp-base-")))
        commit = check_out(arguments.base, checkout)
        stacks = {
            BASE: opened.enter_context(running_stack(checkout=checkout)),
            THIS: opened.enter_context(running_stack()),
        }
        figures = _measure(stacks, arguments.rounds, arguments.seconds)
    report = _report(commit, figures, arguments.rounds, arguments.seconds)
    sys.stdout.write(report)
    arguments.out.write_text(report)
    return 0


def check_out(commit: str, folder: Path) -> str:
    """Make a checkout of `commit` in the empty `folder` and return its hash; raise CalledProcessError."""
    git = ["git", "-C", str(folder)]
    subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(REPOSITORY), str(folder)], check=True)  # noqa: S603, S607
    subprocess.run([*git, "checkout", "--quiet", "--detach", commit], check=True)  # noqa: S603
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True)  # noqa: S603
    return found.stdout.strip()


def _measure(stacks: Mapping[str, Stack], rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Return the values of each figure by stack."""
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: {name: [] for name in stacks})
    for stack in stacks.values():
        uvloop.run(prepare(stack))
    for number in range(rounds):
        order = list(stacks.items())[:: -1 if number % 2 else 1]
        for measurement in measurements(seconds):
            for name, stack in order:
                for figure, value in uvloop.run(measurement(stack)).items():
                    figures[figure][name].append(value)
                    sys.stderr.write(f"{name}: {figure}: {value:.3f}\n")
    return figures


def _report(commit: str, figures: Mapping[str, Rounds], rounds: int, seconds: float) -> str:
    lines = [
        "# Results of `make bench-compare`",
        "",
        "Two stacks on one machine, loaded in turn; `bench/compare.py` documents how.",
        "",
        f"- {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
        f"- base: {commit}; {rounds} rounds, loads of {seconds:g} s",
        *describe_machine(),
        "",
        "| figure, median | base | this | this / base |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {figure} | {median(values[BASE]):.3g} | {median(values[THIS]):.3g} | {ratio(values):.2f} |"
        for figure, values in figures.items()
    ]
    return "\n".join([*lines, ""])


def ratio(values: Rounds) -> float:
    """Return the median of the ratios of neighbouring runs."""
    return median(this / base for base, this in zip(values[BASE], values[THIS], strict=True))


if __name__ == "__main__":
    sys.exit(main())
