"""Which cron expressions fire (registry.md#cron-dialect)."""

import pytest

from services.registry.rules.cron import CronError, fires


@pytest.mark.parametrize(
    "expression",
    [
        "0 19 * * *",
        "5/20 * * * *",
        "10-20/5 8 * * *",
        "0 0 1 jan ?",
        "0 9 * * MON-FRI",
        "0 0 29 2 *",  # in leap years
        "0 0 31 2,4,12 *",
        "0 0 30 2 5",  # both restricted: a Friday is enough
        "0 0 */31 2 *",
        "1,,3 * * * *",
        "@hourly",
        "@weekly",
        "@yearly",
        "@every 1h30m",
        "@every 10ms",
        "@every 2562047h",
        "TZ=Europe/Berlin 0 12 * * *",
        "CRON_TZ=America/New_York 0 12 * * *",
        "TZ= 0 12 * * *",
    ],
)
def test_expression_that_names_a_moment_fires(expression: str) -> None:
    assert fires(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 31 2 *",
        "0 0 30 feb *",
        "0 0 31 4,6,9,11 ?",
        "0 0 31 2 */1",  # which restricts nothing
        ", * * * *",
        "* , * * *",
        "* * , * *",
        "* * * , *",
        "* * * * ,",
        "TZ=Europe/Berlin 0 0 30 2 *",
    ],
)
def test_expression_of_an_impossible_moment_never_fires(expression: str) -> None:
    assert not fires(expression)


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
def test_invalid_expression_is_reported_with_the_reason(expression: str, text: str) -> None:
    with pytest.raises(CronError) as caught:
        fires(expression)
    assert text in str(caught.value)
