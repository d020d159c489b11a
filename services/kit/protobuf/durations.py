"""Durations in Go's syntax (`1h5m`, `300ms`), which filters and settings of Flyte use."""

import re
from decimal import Decimal

NANOSECONDS = 1_000_000_000
_UNITS = {
    "ns": Decimal(1),
    "us": Decimal(1_000),
    "µs": Decimal(1_000),
    "μs": Decimal(1_000),
    "ms": Decimal(1_000_000),
    "s": Decimal(NANOSECONDS),
    "m": Decimal(60 * NANOSECONDS),
    "h": Decimal(3600 * NANOSECONDS),
}
# There is one way only to match a text: with `\d+\.?\d*`, a long number took the square of its length to be refused.
_DIGITS = r"(\d+(?:\.\d*)?|\.\d+)"
_PART = rf"{_DIGITS}(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([+-]?)((?:{_PART})+)", re.ASCII)
_NUMBER = re.compile(rf"[+-]?{_DIGITS}", re.ASCII)
# The longest that Go writes has 24 characters. Longer texts are never meant as durations.
_MAX_CHARACTERS = 1000
# Go stores a duration as a signed 64-bit count of nanoseconds.
LONGEST_NANOSECONDS = 2**63 - 1


def parse_duration(text: str) -> int:
    """Return the nanoseconds of a Go duration or of a plain number of seconds; raise ValueError for other text."""
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"a duration of more than {_MAX_CHARACTERS} characters")
    if _NUMBER.fullmatch(text):
        return _bounded(Decimal(text) * NANOSECONDS, text)
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text}")
    total = sum((Decimal(number) * _UNITS[unit] for number, unit in re.findall(_PART, match[2])), Decimal(0))
    return _bounded(-total if match[1] == "-" else total, text)


def duration_text(nanoseconds: int) -> str:
    """Write a duration as Go does: `1h0m0s`, `1.5s`, `300ms`, `0s`."""
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    if rest < NANOSECONDS:
        unit = next((unit for unit in ("ms", "µs") if rest >= _UNITS[unit]), "ns") if rest else "s"
        return f"{sign}{_number(rest, int(_UNITS[unit]))}{unit}"
    minutes, rest = divmod(rest, 60 * NANOSECONDS)
    hours, minutes = divmod(minutes, 60)
    longer = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{longer}{_number(rest, NANOSECONDS)}s"


def _number(nanoseconds: int, unit: int) -> str:
    """Return `nanoseconds` in terms of `unit`, exactly and without trailing zeros."""
    whole, rest = divmod(nanoseconds, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _bounded(nanoseconds: Decimal, text: str) -> int:
    if abs(nanoseconds) > LONGEST_NANOSECONDS:
        raise ValueError(f"a duration out of range: {text}")
    return int(nanoseconds)
