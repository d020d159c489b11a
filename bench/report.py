"""The report of a run: rates, latencies, failures, CPU, and the machine it ran on."""

import os
import platform
import timeit
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.check import Findings
from bench.rounds import Tally
from bench.sequences import Play

PERCENTILES = (50.0, 99.0, 99.9)
# Characters of a failure's message; most of a long one is the same for all.
_MESSAGE_MOST = 100
_MEBIBYTE = 1 << 20
# A run of this length is reported in parts too.
_LONG_SECONDS = 60.0
# Steps of the loop that measures the pace: a tenth of a second or two.
_LOOP_STEPS = 2_000_000


@dataclass(frozen=True)
class Result:
    """A run: its parameters, its calls, its findings. `cpu` in seconds while the load lasted."""

    title: str
    seconds: float
    tally: Tally
    findings: Findings
    cpu: Mapping[str, float]
    pace: float = 0.0
    """Steps a second of a plain loop of this Python, alone on the machine, just before the load."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the sorted `values` that `percent` of them do not exceed (nearest rank); NaN for none."""
    if not values:
        return float("nan")
    rank = -(-len(values) * percent // 100)
    return values[max(int(rank), 1) - 1]


def render(result: Result) -> str:
    """Return `result` as a section of Markdown."""
    tally = result.tally
    errors, retries = sum(tally.errors.values()), sum(tally.retries.values())
    return "\n".join(
        (
            f"## {result.title}",
            "",
            f"- events accepted: {tally.in_time}, **{tally.in_time / result.seconds:.0f} a second**",
            *_parts(result),
            f"- executions created: {tally.creates_in_time}, {tally.creates_in_time / result.seconds:.1f} a second",
            f"- errors: {errors}; retries: {retries}; executions given up: {len(tally.given_up)}",
            *_failures(tally),
            f"- read back: {result.findings.entities} entities, {len(result.findings.wrong)} wrong",
            *(f"  - {wrong}" for wrong in result.findings.shown()),
            *(
                [f"- pace before it: {result.pace / 1e6:.1f} million steps of a plain loop a second"]
                if result.pace
                else []
            ),
            "",
            *_latencies(tally),
            "",
            *_cpu(result),
            "",
        )
    )


def responses(tally: Tally) -> list[str]:
    """Return lines about the codes of all calls and about failures."""
    codes: Counter[int] = Counter()
    for (_, code), number in tally.responses.items():
        codes[code] += number
    counted = ", ".join(f"code {code}: {number}" for code, number in sorted(codes.items()))
    return [
        f"calls: {counted}",
        f"failed rounds: {sum(tally.errors.values())}, executions given up: {len(tally.given_up)}",
        *(line.removeprefix("  ") for line in _failures(tally)),
    ]


def _parts(result: Result) -> list[str]:
    """Return a line with the rate in each part of the time; none for a run that is too short for that."""
    counts = result.tally.in_parts
    if result.seconds < _LONG_SECONDS or not counts:
        return []
    rates = [(after - before) * len(counts) / result.seconds for before, after in pairwise([0, *counts])]
    return [f"  - in {len(counts)} equal parts of the time: {', '.join(f'{rate:.0f}' for rate in rates)} a second"]


def pace() -> float:
    """Return steps of a plain loop a second: the speed of the machine and the build of Python, which differ by a half.

    It is the best of a few tries, as other programs may share the machine.
    """
    return _LOOP_STEPS / min(
        timeit.repeat("for i in range(steps): i * i % 7", number=1, globals={"steps": _LOOP_STEPS})
    )


def _latencies(tally: Tally) -> list[str]:
    head = ["| latency, ms |" + "".join(f" p{percent:g} |" for percent in PERCENTILES) + " max |"]
    head.append("|---|" + "---|" * (len(PERCENTILES) + 1))
    for name, values in (("event", sorted(tally.events)), ("CreateExecution", sorted(tally.creates))):
        cells = [percentile(values, percent) for percent in (*PERCENTILES, 100.0)]
        head.append(f"| {name} |" + "".join(f" {cell * 1000:.1f} |" for cell in cells))
    return head


def _cpu(result: Result) -> list[str]:
    if not result.cpu or not result.tally.in_time:
        return []
    thousands = result.tally.in_time / 1000
    lines = ["| process | CPU s per 1,000 events | cores |", "|---|---|---|"]
    rows = [*result.cpu.items(), ("all", sum(result.cpu.values()))]
    lines += [f"| {name} | {used / thousands:.3f} | {used / result.seconds:.2f} |" for name, used in rows]
    return lines


def _failures(tally: Tally) -> list[str]:
    lines = [
        f"  - {number} x {path.rpartition('/')[2]}, code {code}: {message[:_MESSAGE_MOST]}"
        for (path, code, message), number in tally.errors.most_common()
    ]
    return lines + [
        f"  - {number} retries of {path.rpartition('/')[2]} after code {code}"
        for (path, code), number in tally.retries.most_common()
    ]


def describe_machine() -> list[str]:
    """Return lines about this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _MEBIBYTE
    return [
        f"- machine: {_processor()}, {os.cpu_count()} cores, {memory:.0f} MiB; load generator and servers share it",
        f"- {platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
    ]


def describe_sizes(plays: Sequence[Play]) -> list[str]:
    """Return a table of the events of an execution of each shape."""
    lines = ["| shape | events | bytes an event, mean | largest |", "|---|---|---|---|"]
    for play in plays:
        sizes = [len(step.request) for step in play.steps]
        mean = sum(sizes) / len(sizes)
        lines.append(f"| {play.shape} | {len(sizes)} | {mean:.0f} | {max(sizes)} |")
    return lines


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
