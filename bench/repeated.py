"""Calls that one caller makes again and again, with more and more rows stored.

The result is the median, and by how much it grows with the size of the history: at the last size it may be 1.5 times
that at the first. A page at offset 100,000 may cost 50 ms: PostgreSQL reads as many entries of an index to get there.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from bench.answers import OK
from bench.entities import SERVICE
from bench.http2 import Channel
from bench.report import percentile

# The page of flytectl; every list has more rows at every size, so pages are full and comparable.
PAGE = 100
DEEP_PAGE = 1000
MOST_GROWTH = 1.5
# Calls before the measurement, so connections, plans and caches are those of a service that has been running.
_WARM_UP = 10


@dataclass(frozen=True)
class ListCall:
    """A list, or a get, that is called again and again; `paged` when its page 1,000 is requested too."""

    what: str
    method: str
    request: Message
    response: type[Message]
    paged: bool = False

    def page(self, number: int) -> bytes:
        """Return the request for a page, the first being 1; tokens are offsets."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        if number > 1:
            request.token = str((number - 1) * PAGE)  # type: ignore[attr-defined]  # every list request has one
        return request.SerializeToString()

    def rows(self, body: bytes) -> int:
        """Return the number of entities in a response."""
        response = self.response.FromString(body)
        (of,) = [field.name for field in response.DESCRIPTOR.fields if field.message_type and field.is_repeated] or [""]
        return len(getattr(response, of)) if of else 1


@dataclass
class Measured:
    """The measurements of a call, by page and size: medians in seconds, rows of a response, and why it failed."""

    call: ListCall
    medians: dict[tuple[int, int], float] = field(default_factory=dict)
    rows: dict[tuple[int, int], int] = field(default_factory=dict)
    failure: str = ""

    def growth(self, sizes: Sequence[int]) -> float:
        """Return the median of the first page at the last size, as a multiple of that at the first."""
        return self._ratio((1, sizes[-1]), (1, sizes[0]))

    def depth(self, sizes: Sequence[int]) -> float:
        """Return the median of the deep page at the last size, as a multiple of the first page's."""
        return self._ratio((DEEP_PAGE, sizes[-1]), (1, sizes[-1]))

    def _ratio(self, one: tuple[int, int], other: tuple[int, int]) -> float:
        return self.medians.get(one, float("nan")) / self.medians.get(other, float("nan"))


async def measure_all(port: int, lists: Sequence[Measured], size: int, repeats: int) -> None:
    """Measure each call at this size."""
    channel = Channel("127.0.0.1", port, 1)
    try:
        for measured in lists:
            deep = measured.call.paged and size >= 2 * PAGE * DEEP_PAGE
            for page in (1, DEEP_PAGE) if deep else (1,):
                await _measure(channel, measured, page, size, repeats)
    finally:
        channel.close()


async def _measure(channel: Channel, measured: Measured, page: int, size: int, repeats: int) -> None:
    request, took = measured.call.page(page), []
    for _ in range(_WARM_UP + repeats):
        began = time.perf_counter()
        response = await channel.call(SERVICE + measured.call.method, request)
        took.append(time.perf_counter() - began)
        if response.code != OK:
            measured.failure = f"code {response.code}: {response.message}"
            return
    measured.rows[page, size] = measured.call.rows(response.body)
    measured.medians[page, size] = percentile(sorted(took[_WARM_UP:]), 50)


def table(lists: Sequence[Measured], sizes: Sequence[int]) -> list[str]:
    """Return the medians as a Markdown table."""
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
    for measured in lists:
        what = f"| {measured.call.method}, {measured.call.what} |"
        if measured.failure:
            lines.append(f"{what} **failed**: {measured.failure} |" + " |" * (len(sizes) + 3))
            continue
        cells = [f"{measured.medians[1, size] * 1000:.2f}" for size in sizes]
        growth = measured.growth(sizes)
        cells.append(f"{growth:.2f}" if growth <= MOST_GROWTH else f"**{growth:.2f}, too much**")
        median = measured.medians.get((DEEP_PAGE, sizes[-1]))
        cells += [f"{median * 1000:.2f}", f"{measured.depth(sizes):.2f}"] if median else ["", ""]
        lines.append(f"{what} {_rows(measured, sizes)} | " + " | ".join(cells) + " |")
    return lines


def _rows(measured: Measured, sizes: Sequence[int]) -> str:
    """Return the rows of a response, of each size when they differ."""
    rows = [measured.rows[1, size] for size in sizes]
    return str(rows[0]) if len(set(rows)) == 1 else ", ".join(map(str, rows))
