"""The folder of an attempt: its log, which stays, and what it needs while it runs."""

import json
import shutil
import stat
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from deploy.sandbox.engine.graph.interface import TaskKey
from deploy.sandbox.engine.path_parts import path_part
from deploy.sandbox.engine.tasks.plain_files import NotPlain, open_plain


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
        _remove(self.exit)
        if not stat.S_ISREG(_mode(self.log)):
            _remove(self.log)
        for folder in (self.root, self.work, self.temporary):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def clear(self) -> None:
        """Delete all but the log, the end, and the data of a raw container, of which the outputs are to be stored."""
        for path in (self.inputs, self.work, self.temporary, self.secrets):
            _remove(path)

    def status(self) -> int | None:
        """Return the wait status with which the attempt ended; None if it has not, or was killed with the engine."""
        try:
            with open_plain(self.root, [self.exit.name]) as file:
                return int(json.load(file)["status"])
        except (NotPlain, ValueError, KeyError, TypeError):  # a task can write there, too
            return None


def _remove(path: Path) -> None:
    """Delete a file, a link or a folder, whatever a task has made of it."""
    if stat.S_ISDIR(_mode(path)):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """Return the type of the file at a path, 0 for none."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def clear_ended(base: Path, running: Container[tuple[str, ...]]) -> None:
    """Delete what attempts have left that a kill interrupted at their ends: all but log and end.

    Args:
        base: the folder of all attempts.
        running: the folders of executions that run, as their last three names.
    """
    for execution in base.glob("*/*/*"):
        if execution.parts[-3:] not in running:
            for attempt in execution.glob("*/*"):
                folder = AttemptFolder(attempt)
                folder.clear()
                _remove(folder.data)


def delete_older(base: Path, before: float, kept: Container[tuple[str, ...]]) -> int:
    """Delete the attempts of executions that have not changed since `before`; return of how many executions.

    Args:
        base: the folder of all attempts.
        before: a Unix time.
        kept: the folders of executions to keep, as their last three names.
    """
    deleted = 0
    for folder in base.glob("*/*/*"):
        if folder.parts[-3:] not in kept and _changed(folder) < before:
            shutil.rmtree(folder, ignore_errors=True)
            deleted += 1
    return deleted


def _changed(folder: Path) -> float:
    """Return when something below a folder was last changed; links to what is not there are something, too."""
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


def folder_of(base: Path, execution: WorkflowExecutionIdentifier, key: TaskKey) -> AttemptFolder:
    """Return the folder of an attempt below `base`."""
    names = (execution.project, execution.domain, execution.name, key.node_id)
    return AttemptFolder(base.joinpath(*map(path_part, names), attempt_name(key)))


def attempt_name(key: TaskKey) -> str:
    """Return the attempt, with the index of an item of an array node, as a name: `0`, `n12-0`."""
    return str(key.attempt) if key.index < 0 else f"n{key.index}-{key.attempt}"
