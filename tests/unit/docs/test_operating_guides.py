"""The guides for operators name only settings, metrics, commands, files and make targets that exist."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.chart.values import ChartValues
from services.settings import PROCESSES

ROOT = Path(__file__).parents[3]
GUIDES = sorted((ROOT / "docs" / "operating").glob("*.md"))
# Words with underscores that are not Flyteplane's: PostgreSQL's, NATS's and libpq's settings, programs, and OAuth's.
FOREIGN = {"max_connections", "max_payload", "sync_interval", "pg_dump"}
FOREIGN |= {"client_credentials", "client_id", "jwks_uri"}
SOURCES = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "services/*.py"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.split()


@pytest.fixture(scope="module")
def code() -> str:
    return "\n".join((ROOT / name).read_text() for name in SOURCES if (ROOT / name).is_file())


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_guides_name_settings_that_exist(guide: Path) -> None:
    settings = {name for model in PROCESSES.values() for name in model.model_fields}
    text = guide.read_text()
    named = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", text)) - FOREIGN
    named |= {name.lower() for name in re.findall(r"FLYTEPLANE_([A-Z_]+)", text)}
    assert {name for name in named if not name.startswith("flyteplane_")} <= settings


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_guides_name_metrics_that_exist(guide: Path, code: str) -> None:
    for metric in set(re.findall(r"`(flyteplane_[a-z_]+)", guide.read_text())):
        assert f'"{metric}"' in code or f'"{metric.removesuffix("_total")}"' in code, metric


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_guides_name_commands_that_exist(guide: Path) -> None:
    text = guide.read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make ([a-z][a-z-]+)", text)):
        assert f"\n{target}:" in makefile, target
    for service, command in set(re.findall(r"services\.(\w+) ([a-z][a-z-]+)", text)):
        main = (ROOT / "services" / service / "__main__.py").read_text()
        assert command == "migrate" or f'"{command}"' in main, (service, command)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_guides_name_files_that_exist(guide: Path) -> None:
    for path in set(re.findall(r"(?:deploy|bench|examples)/[\w./-]*\w", guide.read_text())):
        assert (ROOT / path).exists(), path


def test_values_in_guides_are_those_of_the_chart() -> None:
    (install,) = [guide for guide in GUIDES if guide.stem == "install"]
    blocks = re.findall(r"```yaml\n(.*?)```", install.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        ChartValues.model_validate(yaml.safe_load(block))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_guides_name_values_of_the_chart_that_exist(guide: Path) -> None:
    text = guide.read_text()
    named = re.findall(r"`([a-z]\w+(?:\.[a-z]\w+)+)(?::[^`]*)?`", text) + re.findall(r"--set (\w+(?:\.\w+)+)=", text)
    values = ChartValues().model_dump(by_alias=True)
    for path in named:
        first, *rest = path.split(".")
        if first in values:  # else it is no value: a module, a file
            found = values[first]
            for part in rest:
                assert part in found, path
                found = found[part]
