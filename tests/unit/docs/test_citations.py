"""Citations and links: each names a page and a heading that exist, and pages name only paths that exist."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
CODE = ("*.py", "*.toml", "*.lua", "*.sql", "Makefile")
# A page of docs, with or without its folder. Pages named by a URL or by another path are no citations.
CITATION = re.compile(
    r"(?<![\w/.*-])(?:docs/)?(?P<folder>behaviour/|decisions/|operating/)?(?P<page>[a-z0-9-]+\.md)(?:#(?P<anchor>[\w-]+))?(?!\w)"
)
# Section numbers, as pages once had them. Those of an RFC follow its name.
NUMBER = re.compile(
    r"(?<=\w )\((?:section )?\d+\.\d+(?:, (?:steps?|rules?|number|section)? ?[\d.]+[^)]*)?\)|architecture, section"
)
LINK = re.compile(r"\]\((?P<path>[^)#:\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
FENCE = re.compile(r"```.*?```", re.DOTALL)
INLINE = re.compile(r"`[^`\n]*`")
# Paths in backticks: of the repository, or the end of one that names a source file.
FILE = re.compile(
    r"`(?P<path>(?:services|gateway|deploy|docs|tests|bench|examples)/[\w./-]+|[\w./-]+/[\w-]+\.(?:py|lua))`"
)


def _tracked(*patterns: str) -> list[Path]:
    """Return the files of the repository that match `patterns` and are in the working tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


@cache
def _anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    anchors: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
        earlier = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", anchor) is not None for anchor in anchors)
        anchors.append(f"{slug}-{earlier}" if earlier else slug)
    return frozenset(anchors)


def _page(folder: str | None, name: str) -> Path:
    if folder:
        return DOCS / folder / name
    return DOCS / name if (DOCS / name).exists() else DOCS / "behaviour" / name


def _fault(citation: re.Match[str]) -> str:
    """Return what is wrong with a citation, empty if nothing is."""
    page = _page(citation["folder"], citation["page"])
    if not page.exists():
        return "no such page"
    if citation["anchor"] is not None:
        return "" if citation["anchor"] in _anchors(page) else "no such heading"
    whole = page.parent.name == "decisions" or page.name in {"settings.md", "glossary.md", "authorization.md"}
    return "" if whole else "no heading is named"


def _leads_somewhere(page: Path, link: re.Match[str]) -> bool:
    target = page.parent / link["path"] if link["path"] else page
    if link["anchor"]:
        return target.suffix == ".md" and target.exists() and link["anchor"] in _anchors(target.resolve())
    return target.exists()


def test_citations_in_code_name_a_page_and_a_heading_that_exist() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {citation[0]}: {fault}"
        for path in _tracked(*CODE)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for citation in CITATION.finditer(line)
        if (fault := _fault(citation))
    ]
    assert not faults, "\n".join(faults)


def test_citations_in_code_have_no_section_numbers() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for path in _tracked(*CODE)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for found in NUMBER.finditer(line)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", _tracked("*.md"), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_to_a_page_and_a_heading_that_exist(page: Path) -> None:
    text = INLINE.sub("", FENCE.sub("", page.read_text()))
    faults = [link[0] for link in LINK.finditer(text) if not _leads_somewhere(page, link)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", _tracked("*.md"), ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_pages_exist(page: Path) -> None:
    paths = [found["path"] for found in FILE.finditer(FENCE.sub("", page.read_text()))]
    missing = [path for path in paths if not (ROOT / path).exists() and not any(ROOT.glob(f"*/**/{path}"))]
    assert not missing, "\n".join(missing)


def test_lists_of_files_in_architecture_have_the_lengths_that_it_states() -> None:
    page = (DOCS / "architecture.md").read_text()
    rows = re.findall(r"^\| (\w+)[^|]* \| (\d+)\D[^|]*\| \d+ \|$", page, re.MULTILINE)
    stated = {call: int(own) for call, own in rows}
    sections = {section.partition("\n")[0]: section for section in page.split("\n### ")[1:]}
    listed = {call: len(re.findall(r"^\d+\. `", sections[call], re.MULTILINE)) for call in stated}
    assert len(stated) == 4
    assert listed == stated
