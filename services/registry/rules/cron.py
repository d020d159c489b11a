"""Cron expressions of launch plan schedules (registry.md#cron-dialect).

Five fields, or one of the `@` descriptors, after an optional `TZ=<zone> `. Unlike in other dialects `7` is not Sunday,
and `*/n` restricts a day field.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from services.kit.protobuf.durations import parse_duration

# 29 February exists in some years, 30 February in none.
_LEAP_YEAR = 2024

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = "@every "
_ZONE_PREFIXES = ("TZ=", "CRON_TZ=")
# People write dozens; reading a list of a million items would take long.
MAX_CHARACTERS = 1_000
_NUMBER = re.compile(r"\d+", re.ASCII)
# More than any field needs; reading a number of many digits would take long.
_MAX_DIGITS = 6


class CronError(ValueError):
    """The text is no cron expression; the message contains the reason."""


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY_OF_MONTH = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_DAY_OF_WEEK = _Field("day of week", 0, 6, _DAYS)
_FIELDS = (_MINUTE, _HOUR, _DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK)


def fires(text: str) -> bool:
    """Return whether a schedule of this expression ever fires; raise CronError if it is no expression."""
    if len(text) > MAX_CHARACTERS:
        raise CronError(f"longer than {MAX_CHARACTERS} characters")
    text = _without_zone(text)
    if text.startswith("@"):
        if text.startswith(_EVERY):
            _check_distance(text.removeprefix(_EVERY))
            return True
        if text not in _DESCRIPTORS:
            raise CronError(f"unrecognized descriptor: {text}")
        text = _DESCRIPTORS[text]
    words = text.split()
    if not words:
        raise CronError("empty spec string")
    if len(words) != len(_FIELDS):
        raise CronError(f"expected exactly {len(_FIELDS)} fields, found {len(words)}: [{' '.join(words)}]")
    minutes, hours, days, months, weekdays = (_values(field, word) for field, word in zip(_FIELDS, words, strict=True))
    # Every day of the week occurs in every month.
    on_weekday = bool(months and weekdays)
    on_day = any(day <= monthrange(_LEAP_YEAR, month)[1] for month in months for day in days)
    # Both day fields must match when one of them is `*`; otherwise one of them is enough.
    any_day = _is_any(words[2]) or _is_any(words[4])
    return bool(minutes and hours) and (on_weekday and on_day if any_day else on_weekday or on_day)


def _without_zone(text: str) -> str:
    for prefix in _ZONE_PREFIXES:
        if text.startswith(prefix):
            name, space, rest = text.removeprefix(prefix).partition(" ")
            if not space:
                raise CronError(f"no expression after the zone in {text!r}")
            try:
                if name:
                    ZoneInfo(name)
            except (KeyError, OSError, ValueError) as error:  # an unknown zone; a folder of zones; a path
                raise CronError(f"provided bad location {name}: unknown time zone") from error
            return rest.strip()
    return text


def _check_distance(text: str) -> None:
    # Filters accept a number without a unit as a duration, descriptors do not.
    if not text[-1:].isalpha():
        raise CronError(f"failed to parse duration {text!r}: missing unit")
    try:
        parse_duration(text)
    except ValueError as error:
        raise CronError(f"failed to parse duration {text!r}") from error


def _values(field: _Field, word: str) -> frozenset[int]:
    # Empty items of a list are ignored, as in flyteadmin.
    return frozenset(value for item in word.split(",") if item for value in _range(field, item))


def _range(field: _Field, item: str) -> range:
    bounds, slash, step_text = item.partition("/")
    step = _number(step_text) if slash else 1
    if step == 0:
        raise CronError(f"step of range should be a positive number: {item}")
    if bounds in ("*", "?"):
        return range(field.low, field.high + 1, step)
    first, hyphen, last = bounds.partition("-")
    low = _value(field, first)
    high = _value(field, last) if hyphen else field.high if slash else low
    if low < field.low:
        raise CronError(f"beginning of range ({low}) below minimum ({field.low}): {item}")
    if high > field.high:
        raise CronError(f"end of range ({high}) above maximum ({field.high}): {item}")
    if low > high:
        raise CronError(f"beginning of range ({low}) beyond end of range ({high}): {item}")
    return range(low, high + 1, step)


def _value(field: _Field, text: str) -> int:
    if text.lower() in field.names:
        return field.names.index(text.lower()) + field.low
    return _number(text)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text) or len(text) > _MAX_DIGITS:
        raise CronError(f"failed to parse int from {text!r}")
    return int(text)


def _is_any(word: str) -> bool:
    """Return whether a day field restricts nothing: `*` or `?`, also with step 1, also as one item of a list."""
    items = (item.partition("/") for item in word.split(","))
    return any(bounds in ("*", "?") and step in ("", "1") for bounds, _, step in items)
