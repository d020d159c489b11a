"""The folder of an attempt: its log, which stays, and what it needs while it runs."""

import shutil
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from deploy.sandbox.engine.graph.interface import TaskKey


@dataclass(frozen=True)
class AttemptFolder:
    """The folder of one attempt, readable by its owner only."""

    root: Path

    @property
    def log(self) -> Path:
        """Output and errors of the attempt."""
        return self.root / "log"

    @property
    def exit(self) -> Path:
        """How the attempt ended; written once all of its processes are gone."""
        return self.root / "exit"

    @property
    def work(self) -> Path:
        """The working directory."""
        return self.root / "work"

    @property
    def inputs(self) -> Path:
        """The inputs, if they are others than in the object store."""
        return self.root / "inputs.pb"

    @property
    def temporary(self) -> Path:
        """The folder of temporary files."""
        return self.root / "tmp"

    @property
    def secrets(self) -> Path:
        """The secrets that the attempt has as files."""
        return self.root / "secrets"

    @property
    def data(self) -> Path:
        """Inputs and outputs of a raw container as files."""
        return self.root / "data"

    def make(self) -> None:
        """Make the folders for a start from the beginning; nothing is left of an earlier one but its log."""
        self.clear()
        self.exit.unlink(missing_ok=True)
        for folder in (self.root, self.work, self.temporary):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def clear(self) -> None:
        """Delete all but the log and the end."""
        self.inputs.unlink(missing_ok=True)
        for folder in (self.work, self.temporary, self.secrets):
            shutil.rmtree(folder, ignore_errors=True)


def delete_older(base: Path, before: float, kept: Container[tuple[str, ...]]) -> int:
    """Delete the attempts of executions that have not changed since `before`; return of how many executions.

    Args:
        base: the folder of all attempts.
        before: a Unix time.
        kept: the folders of executions to keep, as their last three names.
    """
    deleted = 0
    for folder in base.glob("*/*/*"):
        changed = max((file.stat().st_mtime for file in folder.rglob("*")), default=folder.stat().st_mtime)
        if changed < before and folder.parts[-3:] not in kept:
            shutil.rmtree(folder, ignore_errors=True)
            deleted += 1
    return deleted


def folder_of(base: Path, execution: WorkflowExecutionIdentifier, key: TaskKey) -> AttemptFolder:
    """Return the folder of an attempt below `base`."""
    names = (execution.project, execution.domain, execution.name, key.node_id)
    return AttemptFolder(base.joinpath(*map(path_part, names), attempt_name(key)))


def attempt_name(key: TaskKey) -> str:
    """Return the attempt, with the index of an item of an array node, as a name: `0`, `n12-0`."""
    return str(key.attempt) if key.index < 0 else f"n{key.index}-{key.attempt}"


def path_part(name: str) -> str:
    """Return `name` as the name of a file: quoted, and no name that folders have already."""
    quoted = quote(name, safe="")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted
