"""Durations in Go's syntax."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.protobuf.durations import LONGEST_NANOSECONDS, duration_text, parse_duration

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5", 5 * SECOND),
        ("3600.5", 3600 * SECOND + SECOND // 2),
        ("1h5m", 3900 * SECOND),
        ("300ms", 300_000_000),
        ("1.5h", 5400 * SECOND),
        ("-2s", -2 * SECOND),
        ("1µs", 1000),
        ("1us", 1000),
        ("7ns", 7),
    ],
)
def test_a_duration_is_counted_in_nanoseconds(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "h", "1x", "1h 5m", "one", "5s!", "1e9", "99999999999h", "١s"])
def test_a_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_duration(text), int)


@pytest.mark.parametrize("text", ["1" * 1_000_000 + "x", "1." * 500_000, "1h" * 500_000, "1" * 5000])
def test_long_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (7, "7ns"),
        (1_500, "1.5µs"),
        (300_000_000, "300ms"),
        (SECOND, "1s"),
        (1_000_000_001, "1.000000001s"),
        (90 * SECOND + SECOND // 2, "1m30.5s"),
        (1200 * SECOND, "20m0s"),
        (3600 * SECOND, "1h0m0s"),
        (-90_000 * SECOND, "-25h0m0s"),
        (LONGEST_NANOSECONDS, "2562047h47m16.854775807s"),
    ],
)
def test_a_duration_is_written_as_go_does(nanoseconds: int, text: str) -> None:
    assert duration_text(nanoseconds) == text


@given(st.integers(-LONGEST_NANOSECONDS, LONGEST_NANOSECONDS))
def test_a_written_duration_is_read_as_the_same(nanoseconds: int) -> None:
    assert parse_duration(duration_text(nanoseconds)) == nanoseconds
