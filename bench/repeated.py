"""Calls that are made again and again by one caller, at every size of what is stored.

What counts is the median, and by how much it grows with the size: at the last it may be half as much again as at the
first. A page at offset 100,000 may cost 50 ms: PostgreSQL reads as many entries of an index to get there.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from bench.answers import OK
from bench.entities import SERVICE
from bench.http2 import Channel
from bench.report import percentile

# A page as flytectl asks for it; every list has more to tell at every size, so that pages are full and comparable.
PAGE = 100
DEEP_PAGE = 1000
MOST_GROWTH = 1.5
# Calls before the clock runs: connections, plans and caches are those of a service that has been running.
_WARM_UP = 10


@dataclass(frozen=True)
class ListCall:
    """A list, or a get, as it is called again and again; `paged` when its page 1,000 is asked for too."""

    what: str
    method: str
    request: Message
    answer: type[Message]
    paged: bool = False

    def page(self, number: int) -> bytes:
        """The request for that page, the first being 1; tokens are offsets."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        if number > 1:
            request.token = str((number - 1) * PAGE)  # type: ignore[attr-defined]  # every list request has one
        return request.SerializeToString()

    def rows(self, body: bytes) -> int:
        """How many things an answer tells of."""
        answer = self.answer.FromString(body)
        (of,) = [field.name for field in answer.DESCRIPTOR.fields if field.message_type and field.is_repeated] or [""]
        return len(getattr(answer, of)) if of else 1


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


async def ask_all(port: int, lists: Sequence[Listed], size: int, repeats: int) -> None:
    """Make each call at this size."""
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


def table(lists: Sequence[Listed], sizes: Sequence[int]) -> list[str]:
    """The medians as a table of Markdown."""
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
        cells.append(f"{growth:.2f}" if growth <= MOST_GROWTH else f"**{growth:.2f}, too much**")
        median = one.medians.get((DEEP_PAGE, sizes[-1]))
        cells += [f"{median * 1000:.2f}", f"{one.depth(sizes):.2f}"] if median else ["", ""]
        lines.append(f"{what} {_rows(one, sizes)} | " + " | ".join(cells) + " |")
    return lines


def _rows(one: Listed, sizes: Sequence[int]) -> str:
    """Rows of an answer; of each size when they differ."""
    rows = [one.rows[1, size] for size in sizes]
    return str(rows[0]) if len(set(rows)) == 1 else ", ".join(map(str, rows))
