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
    "100E": (Fraction(10**20), "100E"),
    "1000E": (Fraction(10**21), "1000E"),
    "2e21": (Fraction(2 * 10**21), "2e21"),
    "1E-3": (Fraction(1, 1000), "1e-3"),
    "1e-30": (Fraction(1, 10**9), "1e-9"),
    "9223372036854775808": (Fraction(2**63), "9223372036854775808"),
    # Only binary quantities are limited.
    "16Ei": (Fraction(2**63 - 1), "9223372036854775807"),
    "-16Ei": (Fraction(-(2**63 - 1)), "-9223372036854775807"),
}


@pytest.mark.parametrize(("text", "expected"), VALUES.items(), ids=VALUES)
def test_quantity_has_an_exact_value_and_one_short_form(text: str, expected: tuple[Fraction, str]) -> None:
    assert (parse_quantity(text), canonical_quantity(text)) == expected


# The texts of k8s.io/apimachinery 0.34, as clusters report them.
WRONG_FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
WRONG_SUFFIX = "unable to parse quantity's suffix"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["", "abc", "many", "1 ", " 1", "1 Gi", "1KB", "1_0", "١", "--1", "1..2", "1e3m", "1" * 65], WRONG_FORMAT),
        # Kubernetes reads these as zero, though its documentation requires digits.
        (["m", "Gi", "e3", "+", "-", ".", "-.k"], WRONG_FORMAT),
        (["1K", "1ki", "1GiGi", "1e", "1m3", "1i", "1+", "1e999999999"], WRONG_SUFFIX),
    ],
)
def test_other_texts_are_refused_as_in_kubernetes(texts: list[str], message: str) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=r"^quantities must|^unable to parse") as refused:
            parse_quantity(text)
        assert str(refused.value) == message, text


@given(st.from_regex(r"[+-]?[0-9]{1,12}(\.[0-9]{0,9})?(n|u|m|k|M|G|Ki|Mi|Gi|e[0-9])?", fullmatch=True))
def test_short_form_has_the_same_value(text: str) -> None:
    assert parse_quantity(canonical_quantity(text)) == parse_quantity(text)
