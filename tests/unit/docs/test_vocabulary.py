"""One vocabulary: the words that docs/glossary.md retired are neither in code nor in pages."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GLOSSARY = ROOT / "docs" / "glossary.md"
RETIRED_HEADING = "## Retired words"
SUFFIXES = {".py", ".md", ".toml", ".lua", ".mako", ""}
# The licence is not ours to word, and reports of the load generator are measurements of their day.
NOT_CHECKED = {GLOSSARY, Path(__file__), ROOT / "LICENSE"}
# Texts that clients and operators receive, names of the system and data of tests.
EXCEPTIONS = re.compile(
    r"its type cannot be told"
    r"|nothing was heard of it for too long"
    r"|too many to tell the difference"
    r"|nobody answers"
    r"|is called nobody"
    r"|nobody(?=[=:])"
    r"""|(?<=["'/.])nobody\b"""
)


def _retired() -> list[str]:
    """Return the words of the first column of the table of retired words."""
    table = GLOSSARY.read_text().partition(RETIRED_HEADING)[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    return [word.strip() for row in rows[1:] for word in row.split(",")]


def _pattern(words: list[str]) -> re.Pattern[str]:
    """Return what finds `words`, also as a part of an identifier: of snake_case, CamelCase and UPPER_CASE.

    A word with a capital is a name, and found as it is.
    """
    forms = []
    for word in words:
        text = re.escape(word)
        forms.append(rf"(?<![A-Za-z]){text}(?![a-z])")
        if word.islower():
            forms += [rf"{text.capitalize()}(?![a-z])", rf"(?<![A-Za-z]){text.upper()}(?![A-Za-z])"]
    return re.compile("|".join(forms))


def _checked() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    files = (ROOT / name for name in names if Path(name).suffix in SUFFIXES)
    return [path for path in files if path.is_file() and path not in NOT_CHECKED]


def test_retired_words_are_neither_in_code_nor_in_pages() -> None:
    words = _retired()
    assert words
    pattern = _pattern(words)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in _checked()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in pattern.finditer(EXCEPTIONS.sub("", line))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text", ["was told", "told_before", "_told", "WasTold", "TOLD_AGAIN", "Told of it", "not told."]
)
def test_retired_words_are_found_in_every_form(text: str) -> None:
    assert _pattern(["told"]).search(text)


@pytest.mark.parametrize("text", ["untold", "tolderone", "Kitchens", "a kitchen"])
def test_other_words_are_not_taken_for_retired_ones(text: str) -> None:
    assert not _pattern(["told", "Kitchen"]).search(text)
