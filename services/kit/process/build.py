"""Which build a process is: its version, the commit it was made from, and when.

A wheel knows its version. A checkout has more to tell: the version in its `pyproject.toml`, and what git says of the
commit. Whoever makes an image puts the commit and the time into the settings instead.
"""

import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

UNKNOWN = "unknown"
_DISTRIBUTION = "flyteplane"
_ROOT = Path(__file__).parents[3]
# Git answers within milliseconds; a start must not hang on a file system that does not.
_GIT_SECONDS = 2.0


@dataclass(frozen=True)
class Build:
    """What is known of a build; `time` is empty when nothing is."""

    version: str = UNKNOWN
    commit: str = UNKNOWN
    time: str = ""


@cache
def running(root: Path = _ROOT) -> Build:
    """The build of this process, whose code lies in `root`."""
    version = _of_checkout(root)
    if version is None:
        return Build(_installed())
    commit, _, time = _git(root, "log", "-1", "--format=%H %cI").partition(" ")
    return Build(version, commit or UNKNOWN, time)


def _of_checkout(root: Path) -> str | None:
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return None
    return str(project.get("version", UNKNOWN)) if project.get("name") == _DISTRIBUTION else None


def _installed() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def _git(root: Path, *arguments: str) -> str:
    # A checkout may belong to somebody else than the process; only its last commit is read.
    command = ("git", "-c", f"safe.directory={root}", "-C", str(root), *arguments)
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)  # noqa: S603 - constants and our own folder
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()
