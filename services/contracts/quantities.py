"""Kubernetes quantities (`500m`, `1.5Gi`, `2e3`): read exactly, and written in Kubernetes' canonical form.

They are read as k8s.io/apimachinery 0.34 does, except for texts without a digit, which it reads as zero
(common.md#quantities). Used by the compiler, by the resource checks of tasks and for the engine inputs of executions.
"""

import re
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator

_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>\d+(?:\.\d*)?|\.\d+)(?P<suffix>(?:[eEinumkKMGTP]+[-+]?\d*|[-+]\d*)?)", re.ASCII
)
# The words of k8s.io/apimachinery.
_WRONG_FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_WRONG_SUFFIX = "unable to parse quantity's suffix"

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIXES = {power: suffix for suffix, power in _BINARY.items()} | {0: ""}

# Kubernetes keeps nine decimal places, and of binary quantities 63 bits. Longer texts are never meant as quantities,
# and without a bound a few bytes such as `1e999999999` would cost gigabytes.
_MAX_CHARACTERS = 64
_MAX_EXPONENT = 99
_PRECISION = 9
_LARGEST_BINARY = 2**63 - 1
_LARGEST_SUFFIX = max(_SUFFIXES)


def parse_quantity(text: str) -> Fraction:
    """Return the value of `text` in plain units (cores, bytes, pieces).

    As in Kubernetes, what is finer than a billionth is rounded away from zero, and a binary quantity is limited to 63
    bits.

    Raises:
        ValueError: `text` is no quantity.
    """
    return _read(text)[0]


def parse_amount(text: str) -> Fraction:
    """Return the value of a quantity as `parse_quantity` does; raise ValueError below zero, too."""
    value = parse_quantity(text)
    if value < 0:
        raise ValueError("must be greater than or equal to 0")
    return value


def is_amount(text: str) -> bool:
    """Return whether `parse_amount` accepts `text`."""
    try:
        parse_amount(text)
    except ValueError:
        return False
    return True


def _checked(text: str) -> str:
    if text:
        parse_amount(text)
    return text


AmountSetting = Annotated[str, AfterValidator(_checked)]
"""The type of a setting that is an amount or empty; with anything else the service does not start."""


def canonical_quantity(text: str) -> str:
    """Return `text` as Kubernetes writes it: no fraction, the largest suffix that allows for that; `1024Mi` is `1Gi`.

    Raises:
        ValueError: `text` is no quantity.
    """
    value, suffix = _read(text)
    if suffix in _BINARY and abs(value) >= 1024:  # noqa: PLR2004 - the base of the binary suffixes
        return _canonical_binary(value)
    if suffix[:1] in {"e", "E"} and len(suffix) > 1:
        number, exponent = _shortened(value, _MAX_EXPONENT)
        return f"{number}e{exponent}" if exponent else str(number)
    number, exponent = _shortened(value)
    return f"{number}{_SUFFIXES[exponent]}"


def _read(text: str) -> tuple[Fraction, str]:
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
    if match is None:
        raise ValueError(_WRONG_FORMAT)
    suffix = match["suffix"]
    magnitude = _exact(match["digits"]) * _multiplier(suffix)
    if suffix in _BINARY:
        magnitude = min(magnitude, Fraction(_LARGEST_BINARY))
    scaled = magnitude * 10**_PRECISION
    rounded = Fraction(-(-scaled.numerator // scaled.denominator), 10**_PRECISION)
    return (-rounded if match["sign"] == "-" else rounded), suffix


def _exact(digits: str) -> Fraction:
    whole, _, places = digits.partition(".")
    return Fraction(int(whole + places), 10 ** len(places))


def _multiplier(suffix: str) -> Fraction:
    if suffix in _BINARY:
        return Fraction(1024 ** _BINARY[suffix])
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix]
    if suffix[:1] in {"e", "E"} and suffix[1:].lstrip("+-").isdigit():
        exponent = int(suffix[1:])
        if abs(exponent) <= _MAX_EXPONENT:
            return Fraction(10) ** exponent
    raise ValueError(_WRONG_SUFFIX)


def _shortened(value: Fraction, largest: int = _LARGEST_SUFFIX) -> tuple[int, int]:
    """Return the integer and the multiple of three, from -9 to `largest`, that make up `value` in the fewest digits."""
    if not value:
        return 0, 0
    exponent = -_PRECISION
    while exponent < largest and (value / Fraction(10) ** (exponent + 3)).denominator == 1:
        exponent += 3
    return int(value / Fraction(10) ** exponent), exponent


def _canonical_binary(value: Fraction) -> str:
    power = max((p for p in _BINARY_SUFFIXES if (value / 1024**p).denominator == 1), default=None)
    if power is None:
        number, exponent = _shortened(value)
        return f"{number}{_SUFFIXES[exponent]}"
    return f"{int(value / 1024**power)}{_BINARY_SUFFIXES[power]}"
