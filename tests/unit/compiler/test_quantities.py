"""Kubernetes quantities."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.quantities import canonical_quantity, parse_quantity

VALUES = {
    "0": (Fraction(0), "0"),
    "1": (Fraction(1), "1"),
    "+1": (Fraction(1), "1"),
    "-1": (Fraction(-1), "-1"),
    "500m": (Fraction(1, 2), "500m"),
    "0.5": (Fraction(1, 2), "500m"),
    ".5": (Fraction(1, 2), "500m"),
    "5.": (Fraction(5), "5"),
    "1100m": (Fraction(11, 10), "1100m"),
    "1000m": (Fraction(1), "1"),
    "1.5Gi": (Fraction(3 * 2**29), "1536Mi"),
    "1024Mi": (Fraction(2**30), "1Gi"),
    "1.5Ki": (Fraction(1536), "1536"),
    "0.5Ki": (Fraction(512), "512"),
    "2e3": (Fraction(2000), "2e3"),
    "1E3": (Fraction(1000), "1e3"),
    "1E": (Fraction(10**18), "1E"),
    "1Ei": (Fraction(2**60), "1Ei"),
    "1n": (Fraction(1, 10**9), "1n"),
    "0.1n": (Fraction(1, 10**9), "1n"),
    "100E": (Fraction(2**63 - 1), "9223372036854775807"),
}


@pytest.mark.parametrize(("text", "expected"), VALUES.items(), ids=VALUES)
def test_a_quantity_has_an_exact_value_and_one_short_form(text: str, expected: tuple[Fraction, str]) -> None:
    assert (parse_quantity(text), canonical_quantity(text)) == expected


@pytest.mark.parametrize("text", ["", "abc", "1 ", " 1", "1KB", "1e", "1_0", "1e999999999", "١", "--1", "1" * 65, "m"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantit"):
        parse_quantity(text)


@given(st.from_regex(r"[+-]?[0-9]{1,12}(\.[0-9]{0,9})?(n|u|m|k|M|G|Ki|Mi|Gi|e[0-9])?", fullmatch=True))
def test_the_short_form_has_the_same_value(text: str) -> None:
    assert parse_quantity(canonical_quantity(text)) == parse_quantity(text)
