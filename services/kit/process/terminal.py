"""What commands at a terminal share: points in time as arguments, and rows as a table or as lines of JSON."""

import argparse
import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

NOTHING_FOUND = 1
"""The exit status of a command that found nothing to show."""

Row = Mapping[str, str | int | None]

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# East Asian widths of characters that take two columns of a terminal.
_WIDE = frozenset("WF")


def add_since(to: argparse.ArgumentParser) -> None:
    """Add --since."""
    to.add_argument(
        "--since",
        type=_since,
        default=None,
        metavar="TIME",
        help="only from then on: 2026-11-24T15:00 (UTC unless it says otherwise), or 30m, 12h, 3d ago",
    )


def add_json(to: argparse.ArgumentParser, of: str) -> None:
    """Add --json; a line is `of` something."""
    to.add_argument("--json", action="store_true", help=f"a line of JSON {of}")


def show(columns: Sequence[str], rows: Sequence[Row], nothing: str, *, as_lines: bool) -> int:
    """Write `rows` to standard output, or `nothing` to standard error, and return the exit status."""
    if not rows:
        sys.stderr.write(f"{nothing}\n")
        return NOTHING_FOUND
    for line in map(as_json, rows) if as_lines else table(columns, rows):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    return 0


def table(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a table with a head; the last column is not padded."""
    cells = [[column.upper() for column in columns]]
    cells += [[_escaped(row[column]) for column in columns] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def as_json(row: Row) -> str:
    """Return one line of JSON; non-ASCII text stays readable."""
    return json.dumps(dict(row), ensure_ascii=False)


def _since(text: str) -> datetime:
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _escaped(value: str | int | None) -> str:
    """Return text that is safe on a terminal and on one line: callers choose names, and messages quote them."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in _WIDE else 1 for char in text
    )
