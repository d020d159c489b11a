"""Removal of the processes of a PostgreSQL whose postmaster was killed.

PostgreSQL itself refuses to start when the number in an old pid or lock file belongs to any process by now: another
program, as is common in containers, or a zombie that its parent does not reap.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import psutil

# They end by themselves when they notice that the postmaster is gone; after this they are killed.
_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.05


def clear(data: Path, files: Sequence[Path]) -> None:
    """Wait until no process works in the cluster `data`, and remove `files`, which mean that one does."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while leftovers := _processes_in(data):
        if time.monotonic() > deadline:
            for process in leftovers:
                process.kill()
            psutil.wait_procs(leftovers, timeout=_PATIENCE_SECONDS)
            break
        time.sleep(_POLL_SECONDS)
    for file in files:
        file.unlink(missing_ok=True)


def _processes_in(data: Path) -> list[psutil.Process]:
    """Return the server's processes: all have its data folder as working directory."""
    return [
        process
        for process in psutil.process_iter(["name", "cwd", "status"])
        if process.info["name"] == "postgres"
        and process.info["cwd"] == str(data)
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
