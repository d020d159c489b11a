"""Many concurrent calls of one method, and their rates and latencies."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from bench.answers import OK, Response
from bench.entities import SERVICE
from bench.http2 import Channel
from bench.report import percentile

AT_ONCE = 16


@dataclass
class Bulk:
    """The calls of one method: seconds for all, latencies in seconds, and failures by message."""

    method: str
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def check(method: str, response: Response) -> None:
    """Exit when a call that everything else needs has failed."""
    if response.code != OK:
        raise SystemExit(f"{method} returned code {response.code}: {response.message}")


async def in_bulk(channel: Channel, method: str, requests: Sequence[Message]) -> Bulk:
    """Make the calls, AT_ONCE at a time, each as soon as an earlier one has ended."""
    done = Bulk(method)
    waiting = iter([request.SerializeToString() for request in requests])

    async def send() -> None:
        for request in waiting:
            began = time.perf_counter()
            response = await channel.call(SERVICE + method, request)
            done.latencies.append(time.perf_counter() - began)
            if response.code != OK:
                done.refused[f"code {response.code}: {response.message}"] += 1

    began = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    done.seconds = time.perf_counter() - began
    return done


def table(bulks: Sequence[Bulk]) -> list[str]:
    """Return rates and latencies as a Markdown table."""
    lines = ["| call | number | a second | p50, ms | p99, ms | refused |", "|---|---|---|---|---|---|"]
    for each in bulks:
        latencies = sorted(each.latencies)
        p50, p99 = (percentile(latencies, percent) * 1000 for percent in (50, 99))
        lines.append(
            f"| {each.method} | {len(latencies)} | {len(latencies) / each.seconds:.0f} | {p50:.1f} | {p99:.1f} |"
            f" {each.refused.total()} |"
        )
    lines += [f"- {number} x {each.method}, {why}" for each in bulks for why, number in each.refused.most_common(5)]
    return lines
