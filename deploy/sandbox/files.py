"""Files and folders for their owner only: they contain passwords, or sockets that require none."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.spawn import ordinary_user

_OTHERS = 0o077


def write_json(file: Path, content: Any) -> None:
    """Replace `file` as a whole, readable by its owner only; raise OSError and leave the old one on failure."""
    write_private(file, json.dumps(content, indent=1))


def write_private(file: Path, content: str) -> None:
    """Replace `file` as a whole, readable by its owner only; raise OSError and leave the old one on failure."""
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(content)
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def is_private(file: Path, content: str) -> bool:
    """Return whether `file` has this content already and is for its owner only."""
    try:
        return file.stat().st_mode & _OTHERS == 0 and file.read_text() == content
    except (OSError, UnicodeDecodeError):
        return False


def own_folder(folder: Path) -> None:
    """Make a folder for its owner only, the user or, for PostgreSQL's folder, the user that it runs as.

    Raises:
        SandboxError: the folder belongs to another user, who could read its content.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid not in {os.geteuid(), *_ordinary()}:
        raise SandboxError(f"{folder} belongs to another user")
    if about.st_mode & _OTHERS:
        folder.chmod(0o700)


def _ordinary() -> tuple[int, ...]:
    user = ordinary_user()
    return (user.pw_uid,) if user else ()
