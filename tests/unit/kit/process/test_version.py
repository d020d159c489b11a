"""The running build, from a checkout or an installed distribution."""

import subprocess
from pathlib import Path

from services.kit.process.version import UNKNOWN, running_version

PYPROJECT = '[project]\nname = "flyteplane"\nversion = "1.2.3"\n'


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    done = subprocess.run(["git", *identity, "-C", folder, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_checkout_has_version_commit_and_time(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "--message=First", "--date=2026-01-02T03:04:05Z")
    build = running_version(tmp_path)
    assert (build.version, build.commit) == ("1.2.3", _git(tmp_path, "rev-parse", "HEAD"))
    assert build.time == _git(tmp_path, "log", "-1", "--format=%cI")


def test_a_copy_without_git_has_only_a_version(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    build = running_version(tmp_path)
    assert (build.version, build.commit, build.time) == ("1.2.3", UNKNOWN, "")


def test_an_image_has_version_commit_and_time(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "build.toml").write_text('commit = "abc"\ntime = "2026-01-02T03:04:05+00:00"\n')
    build = running_version(tmp_path)
    assert (build.version, build.commit, build.time) == ("1.2.3", "abc", "2026-01-02T03:04:05+00:00")


def test_a_folder_of_another_project_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "9"\n')
    build = running_version(tmp_path)
    assert build.version != "9"
    assert (build.commit, build.time) == (UNKNOWN, "")


def test_the_running_build_has_a_version() -> None:
    assert running_version().version != UNKNOWN
