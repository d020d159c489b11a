"""Every regular expression of the product, with long texts: refusing one takes time in proportion to its length."""

import importlib
import pkgutil
import re
import time

import pytest

import services

# Seconds for a text of so many characters. The square of the length would take minutes.
CHARACTERS = 200_000
MOST_SECONDS = 2.0
UNITS = (
    "1",
    "a",
    "A",
    ".",
    "-",
    " ",
    "1.",
    "a.",
    "a-",
    "1h",
    "/a",
    "{{ ",
    "PT1",
    "_INBOX.a",
    "[1].",
    "a/",
    "\\",
    "%(a",
)
ENDS = ("!", "x", ".", "")


def patterns() -> dict[str, re.Pattern[str]]:
    found = {}
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern):
                    found[f"{module.name}.{name}"] = value
    return found


@pytest.mark.parametrize("pattern", [pytest.param(value, id=name) for name, value in patterns().items()])
def test_pattern_takes_time_in_proportion_to_the_length_of_a_text(pattern: re.Pattern[str]) -> None:
    started = time.process_time()
    for unit in UNITS:
        for end in ENDS:
            pattern.fullmatch(unit * (CHARACTERS // len(UNITS) // len(unit)) + end)
    assert time.process_time() - started < MOST_SECONDS
