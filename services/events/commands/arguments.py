"""Arguments that the commands share: points in time, forms of output."""

import argparse
import re
from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
"""Before every event."""

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for the arguments of `command`; a wrong argument ends the process with its usage and status 2."""
    return argparse.ArgumentParser(
        prog=f"python -m services.events {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_since(to: argparse.ArgumentParser) -> None:
    """Add --since."""
    to.add_argument(
        "--since",
        type=_since,
        default=None,
        metavar="TIME",
        help="only from then on: 2026-11-24T15:00 (UTC unless it says otherwise), or 30m, 12h, 3d ago",
    )


def add_json(to: argparse.ArgumentParser) -> None:
    """Add --json."""
    to.add_argument("--json", action="store_true", help="a line of JSON an event")


def _since(text: str) -> datetime:
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)
