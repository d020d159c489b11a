"""The cron dialect of launch plan schedules: what may be written and when it fires next (registry.md section 11.2).

Five fields, or one of the `@` descriptors, with an optional `TZ=<zone> ` in front. It differs from other cron readers
in what clients can see: `7` is not Sunday, `*/n` restricts a day field, a local time that the clock skips does not
fire that day and one that occurs twice fires twice. Without a zone of its own an expression is read in UTC.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from services.kit.durations import NANOSECONDS, parse_duration

# The search gives up here, as the reference does: 29 February comes back within it, 30 February never.
SEARCH_YEARS = 5

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
# What people write has dozens; a list of a million items would only be a way to make us work.
MAX_CHARACTERS = 1_000
_NUMBER = re.compile(r"\d+", re.ASCII)
# More digits than any field has would only be a way to make us work.
_MAX_DIGITS = 6


class CronError(ValueError):
    """The text is no cron expression; says why."""


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


@dataclass(frozen=True)
class Every:
    """`@every <duration>`: a fixed distance between firings, in seconds."""

    seconds: int

    def following(self, after: datetime) -> datetime | None:
        """Return the next time after `after`, on a whole second."""
        return after.replace(microsecond=0) + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Cron:
    """A parsed expression: the values each field allows."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days_of_month: frozenset[int]
    months: frozenset[int]
    days_of_week: frozenset[int]
    any_day: bool  # one of the day fields is `*`: then both must match, else either may
    zone: tzinfo

    def following(self, after: datetime) -> datetime | None:
        """Return the first time strictly later than `after`, in UTC; None when there is none within five years."""
        start = after.astimezone(self.zone)
        for day in self._days(start.date()):
            for moment in self._moments(day, start if day == start.date() else None):
                if moment > after:
                    return moment
        return None

    def _days(self, first: date) -> Iterator[date]:
        day = first
        while day.year <= first.year + SEARCH_YEARS:
            if day.month in self.months and self._matches(day):
                yield day
            try:
                day += timedelta(days=1)
            except OverflowError:  # the calendar ends with year 9999
                return

    def _matches(self, day: date) -> bool:
        of_month = day.day in self.days_of_month
        of_week = day.isoweekday() % 7 in self.days_of_week
        return of_month and of_week if self.any_day else of_month or of_week

    def _moments(self, day: date, start: datetime | None) -> Iterator[datetime]:
        """Yield the times of one local day in UTC, ascending; `start` lets the usual day skip what has passed."""
        times = (time(hour, minute) for hour in self.hours for minute in self.minutes)
        midnight = datetime.combine(day, time(), self.zone)
        if midnight.utcoffset() != (midnight + timedelta(days=1)).utcoffset():  # clocks are changed on this day
            yield from sorted({moment for clock in times for moment in self._instants(day, clock)})
            return
        passed = start.time() if start else time()
        for clock in times:
            if clock >= passed.replace(second=0, microsecond=0):
                yield datetime.combine(day, clock, self.zone).astimezone(UTC)

    def _instants(self, day: date, clock: time) -> Iterator[datetime]:
        """Yield when a local time occurs: never, once or twice on a day on which clocks are changed."""
        local = datetime.combine(day, clock)
        for fold in (0, 1):
            moment = local.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)
            if moment.astimezone(self.zone).replace(tzinfo=None) == local:
                yield moment


def parse(text: str) -> Cron | Every:
    """Parse an expression; raises CronError."""
    if len(text) > MAX_CHARACTERS:
        raise CronError(f"longer than {MAX_CHARACTERS} characters")
    zone, text = _zone(text)
    if text.startswith("@"):
        if text.startswith(_EVERY):
            return Every(_seconds(text.removeprefix(_EVERY)))
        if text not in _DESCRIPTORS:
            raise CronError(f"unrecognized descriptor: {text}")
        text = _DESCRIPTORS[text]
    words = text.split()
    if not words:
        raise CronError("empty spec string")
    if len(words) != len(_FIELDS):
        raise CronError(f"expected exactly {len(_FIELDS)} fields, found {len(words)}: [{' '.join(words)}]")
    minutes, hours, days, months, weekdays = (_values(field, word) for field, word in zip(_FIELDS, words, strict=True))
    return Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days_of_month=days,
        months=months,
        days_of_week=weekdays,
        any_day=_is_any(words[2]) or _is_any(words[4]),
        zone=zone,
    )


def _zone(text: str) -> tuple[tzinfo, str]:
    for prefix in _ZONE_PREFIXES:
        if text.startswith(prefix):
            name, space, rest = text.removeprefix(prefix).partition(" ")
            if not space:
                raise CronError(f"no expression after the zone in {text!r}")
            try:
                return (ZoneInfo(name) if name else UTC), rest.strip()
            except (KeyError, OSError, ValueError) as error:  # unknown; a folder of zones; a path
                raise CronError(f"provided bad location {name}: unknown time zone") from error
    return UTC, text


def _seconds(text: str) -> int:
    try:
        # A number without a unit is a duration in filters, not here.
        nanoseconds = parse_duration(text) if text[-1:].isalpha() else None
    except ValueError as error:
        raise CronError(f"failed to parse duration {text!r}") from error
    if nanoseconds is None:
        raise CronError(f"failed to parse duration {text!r}: missing unit")
    return max(1, nanoseconds // NANOSECONDS)


def _values(field: _Field, word: str) -> frozenset[int]:
    # Empty items of a list are passed over, as the reference does.
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
    """Whether a day field restricts nothing: `*` or `?`, also with step 1, also as one item of a list."""
    items = (item.partition("/") for item in word.split(","))
    return any(bounds in ("*", "?") and step in ("", "1") for bounds, _, step in items)
