"""Settings of the projects service: valid defaults, one clear line for each error."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from flyteidl.admin.version_pb2 import GetVersionRequest, Version

from services.kit.process.settings import load
from services.kit.process.version import running_version
from services.kit.rpc.table import Call
from services.projects.config import ConfiguredDomain, Settings
from services.projects.rpc.version import VersionHandlers


def test_default_settings_are_those_of_flyteadmin() -> None:
    settings = load(Settings)
    assert [(domain.id, domain.name) for domain in settings.domains] == [
        ("development", "development"),
        ("staging", "staging"),
        ("production", "production"),
    ]
    assert settings.seed_projects == ("flytesnacks",)


def test_commas_separate_lists_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEPLANE_DOMAINS", "dev=Development, prod")
    monkeypatch.setenv("FLYTEPLANE_SEED_PROJECTS", "flytesnacks,flytetester")
    settings = load(Settings)
    assert settings.domains == (
        ConfiguredDomain(id="dev", name="Development"),
        ConfiguredDomain(id="prod", name="prod"),
    )
    assert settings.seed_projects == ("flytesnacks", "flytetester")


def test_seed_projects_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEPLANE_SEED_PROJECTS", "")
    assert load(Settings).seed_projects == ()


def test_domains_may_be_written_out_in_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "projects.yaml"
    file.write_text("domains:\n- {id: dev, name: Development}\n- prod\nseed_projects: [flytetester]\n")
    monkeypatch.setenv("FLYTEPLANE_CONFIG", str(file))
    settings = load(Settings)
    assert [(domain.id, domain.name) for domain in settings.domains] == [("dev", "Development"), ("prod", "prod")]
    assert settings.seed_projects == ("flytetester",)


@pytest.mark.parametrize("wrong", ["", "development,development", "=Development"])
def test_wrong_domains_are_refused_at_start(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("FLYTEPLANE_DOMAINS", wrong)
    with pytest.raises(SystemExit, match=r"^wrong settings: domains"):
        load(Settings)


async def test_get_version_without_a_build_time_shows_the_start_of_the_process() -> None:
    started = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    version = await _version(Settings(version="1.2.3", build_time=""), started)
    assert (version.Version, version.Build) == ("v1.2.3", running_version().commit)
    assert version.BuildTime == "2026-01-02 03:04:05.000678 +0000 UTC"


async def test_get_version_shows_the_settings_of_the_build() -> None:
    version = await _version(
        Settings(version="1.2.3", build="abcdef0", build_time="2025-12-31"), datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert (version.Version, version.Build, version.BuildTime) == ("v1.2.3", "abcdef0", "2025-12-31")


@pytest.mark.parametrize("as_it_is", ["v1.2.3", "unknown", "", "main"])
async def test_get_version_prefixes_v_to_numbers_only(as_it_is: str) -> None:
    assert (await _version(Settings(version=as_it_is), datetime(2026, 1, 2, tzinfo=UTC))).Version == as_it_is


async def _version(settings: Settings, started: datetime) -> Version:
    response = await VersionHandlers(settings, started).GetVersion(GetVersionRequest(), Call())
    return response.control_plane_version
