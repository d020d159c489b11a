"""Many calls of one method, so many at a time, and how fast they went."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from bench.answers import OK, Answer
from bench.entities import SERVICE
from bench.http2 import Channel
from bench.report import percentile

AT_ONCE = 16


@dataclass
class Bulk:
    """How they went. Latencies in seconds."""

    method: str
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def check(method: str, answer: Answer) -> None:
    """Exit when a call that everything else needs was refused."""
    if answer.code != OK:
        raise SystemExit(f"{method} was answered with code {answer.code}: {answer.message}")


async def in_bulk(channel: Channel, method: str, requests: Sequence[Message]) -> Bulk:
    """Make the calls, so many at a time, each as soon as one before has ended."""
    done = Bulk(method)
    waiting = iter([request.SerializeToString() for request in requests])

    async def send() -> None:
        for request in waiting:
            began = time.perf_counter()
            answer = await channel.call(SERVICE + method, request)
            done.latencies.append(time.perf_counter() - began)
            if answer.code != OK:
                done.refused[f"code {answer.code}: {answer.message}"] += 1

    began = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    done.seconds = time.perf_counter() - began
    return done


def table(bulks: Sequence[Bulk]) -> list[str]:
    """Rates and latencies as a table of Markdown."""
    lines = ["| call | number | a second | p50, ms | p99, ms | refused |", "|---|---|---|---|---|---|"]
    for one in bulks:
        latencies = sorted(one.latencies)
        p50, p99 = (percentile(latencies, percent) * 1000 for percent in (50, 99))
        lines.append(
            f"| {one.method} | {len(latencies)} | {len(latencies) / one.seconds:.0f} | {p50:.1f} | {p99:.1f} |"
            f" {one.refused.total()} |"
        )
    lines += [f"- {number} x {one.method}, {why}" for one in bulks for why, number in one.refused.most_common(5)]
    return lines
