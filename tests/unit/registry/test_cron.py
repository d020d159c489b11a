"""When schedules fire: the dialect that the reference's scheduler reads (registry.md 11.2)."""

from datetime import UTC, datetime

import pytest

from services.registry.rules.cron import CronError, parse


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 19 * * *", "2022-01-27T19:00", "2022-01-28T19:00"),  # strictly later
        ("0 19 * * *", "2022-01-27T18:59:59", "2022-01-27T19:00"),
        ("* * * * *", "2022-01-27T19:00:30", "2022-01-27T19:01"),
        ("*/15 * * * *", "2022-01-27T19:01", "2022-01-27T19:15"),
        ("5/20 * * * *", "2022-01-27T19:26", "2022-01-27T19:45"),
        ("10-20/5 8 * * *", "2022-01-27T08:10", "2022-01-27T08:15"),
        ("0 0 1 jan ?", "2022-01-27T00:00", "2023-01-01T00:00"),
        ("0 9 * * MON-FRI", "2022-01-28T09:00", "2022-01-31T09:00"),
        ("0 0 13 * 5", "2022-01-01T00:00", "2022-01-07T00:00"),  # both restricted: either matches
        ("0 0 13 * *", "2022-01-01T00:00", "2022-01-13T00:00"),
        ("0 0 */1 * 5", "2022-01-01T00:00", "2022-01-07T00:00"),  # */1 restricts nothing
        ("0 0 */2 * 5", "2022-01-01T00:00", "2022-01-03T00:00"),  # */2 does: either matches
        ("0 0 29 2 *", "2022-01-01T00:00", "2024-02-29T00:00"),
        ("1,,3 * * * *", "2022-01-01T00:01", "2022-01-01T00:03"),
        ("@hourly", "2022-01-01T00:01", "2022-01-01T01:00"),
        ("@weekly", "2022-01-01T00:01", "2022-01-02T00:00"),
        ("@yearly", "2022-01-01T00:00", "2023-01-01T00:00"),
        ("@every 1h30m", "2022-01-01T00:00:10", "2022-01-01T01:30:10"),
        ("@every 10ms", "2022-01-01T00:00", "2022-01-01T00:00:01"),
        ("TZ=Europe/Berlin 0 12 * * *", "2022-01-01T00:00", "2022-01-01T11:00"),
        ("CRON_TZ=America/New_York 0 12 * * *", "2022-07-01T00:00", "2022-07-01T16:00"),
        # 2022-03-27 02:30 does not exist in Berlin, so that day is passed over.
        ("TZ=Europe/Berlin 30 2 * * *", "2022-03-26T12:00", "2022-03-28T00:30"),
        # 2022-10-30 02:30 occurs twice there and fires twice.
        ("TZ=Europe/Berlin 30 2 * * *", "2022-10-29T12:00", "2022-10-30T00:30"),
        ("TZ=Europe/Berlin 30 2 * * *", "2022-10-30T00:30", "2022-10-30T01:30"),
        ("TZ=Europe/Berlin 30 2 * * *", "2022-10-30T01:30", "2022-10-31T01:30"),
        # Beirut's clocks change at midnight, which does not exist on that day.
        ("TZ=Asia/Beirut 0 0 * * *", "2019-03-30T12:00", "2019-03-31T21:00"),
    ],
)
def test_next_time(expression: str, after: str, expected: str) -> None:
    assert parse(expression).following(at(after)) == at(expected)


def test_the_longest_distance_that_can_be_written_is_still_a_time() -> None:
    assert parse("@every 2562047h").following(at("2022-01-01T00:00")) == at("2314-04-12T23:00")


@pytest.mark.parametrize("expression", ["0 0 31 2 *", "0 0 30 feb *", ", * * * *"])
def test_impossible_date_never_fires(expression: str) -> None:
    assert parse(expression).following(at("2022-01-01T00:00")) is None


def test_search_ends_with_the_calendar() -> None:
    assert parse("0 0 31 2 *").following(at("9999-06-01T00:00")) is None


def test_hourly_job_catches_up_once_an_hour() -> None:
    moment, end, times = at("2022-01-27T19:00"), at("2022-01-28T19:00"), 0
    while (following := parse("@hourly").following(moment)) and following <= end:
        moment, times = following, times + 1
    assert times == 24


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4"),
        ("* * * * * *", "expected exactly 5 fields, found 6"),
        ("0 0 * * 7", "end of range (7) above maximum (6)"),
        ("60 * * * *", "end of range (60) above maximum (59)"),
        ("* * 0 * *", "beginning of range (0) below minimum (1)"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1)"),
        ("*/0 * * * *", "step of range should be a positive number"),
        ("a * * * *", "failed to parse int"),
        ("-1 * * * *", "failed to parse int"),
        ("1-2-3 * * * *", "failed to parse int"),
        ("99999999999999999999 * * * *", "failed to parse int"),
        ("* * L * *", "failed to parse int"),
        ("* * * * 5#2", "failed to parse int"),
        ("hourly", "expected exactly 5 fields, found 1"),
        ("@fortnightly", "unrecognized descriptor"),
        ("@every 5", "missing unit"),
        ("@every soon", "failed to parse duration"),
        ("*," * 500_000 + " * * * *", "longer than 1000 characters"),
        ("@every 9999999999h", "failed to parse duration"),
        ("TZ=" + "a" * 900 + " 0 0 * * *", "bad location"),
        ("TZ=\x00 0 0 * * *", "bad location"),
        ("TZ=/etc/localtime 0 0 * * *", "bad location"),
        ("0 0 1,15 * 1-", "failed to parse int"),
        ("*/x * * * *", "failed to parse int"),
        ("1/ * * * *", "failed to parse int"),
        ("+1 * * * *", "failed to parse int"),
        ("\u0661 * * * *", "failed to parse int"),
        ("TZ=Europe/Berlin", "no expression after the zone"),
        ("TZ=Atlantis 0 0 * * *", "bad location Atlantis"),
        ("TZ=../../etc/passwd 0 0 * * *", "bad location"),
        ("TZ=Europe 0 0 * * *", "bad location"),
    ],
)
def test_unreadable_expression_says_why(expression: str, text: str) -> None:
    with pytest.raises(CronError) as caught:
        parse(expression)
    assert text in str(caught.value)
