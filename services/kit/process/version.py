"""The build of a process: its version, its commit and the time of that.

A wheel has a version. For a checkout, the version comes from its `pyproject.toml` and the commit from git. An image is
a copy without git; its `build.toml` has the commit and the time.
"""

import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"
_DISTRIBUTION = "flyteplane"
_ROOT = Path(__file__).parents[3]
# Git takes milliseconds; a start must not hang on a slow file system.
_GIT_SECONDS = 2.0


@dataclass(frozen=True)
class VersionInfo:
    """Version, commit and time of a build; `time` is empty when unknown."""

    version: str = UNKNOWN
    commit: str = UNKNOWN
    time: str = ""


@cache
def running_version(root: Path = _ROOT) -> VersionInfo:
    """Return the build of this process, whose code is in `root`."""
    version = _checkout_version(root)
    if version is None:
        return VersionInfo(_installed_version())
    built = _read_toml(root / "build.toml")
    if built is not None:
        return VersionInfo(version, str(built.get("commit") or UNKNOWN), str(built.get("time", "")))
    commit, _, time = _git(root, "log", "-1", "--format=%H %cI").partition(" ")
    return VersionInfo(version, commit or UNKNOWN, time)


def _checkout_version(root: Path) -> str | None:
    project = (_read_toml(root / "pyproject.toml") or {}).get("project", {})
    return str(project.get("version", UNKNOWN)) if project.get("name") == _DISTRIBUTION else None


def _read_toml(file: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None


def _installed_version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def _git(root: Path, *arguments: str) -> str:
    # The checkout may belong to another user than the process; only its last commit is read.
    command = ("git", "-c", f"safe.directory={root}", "-C", str(root), *arguments)
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)  # noqa: S603 - constants and our own folder
    except (OSError, subprocess.SubprocessError):
        return ""
    return completed.stdout.strip()
