"""The log files of attempts: found by the names in an address, or said why there is none."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from deploy.sandbox.engine.path_parts import path_part
from deploy.sandbox.engine.runs import RunKey
from deploy.sandbox.engine.tasks.folders import AttemptFolder
from deploy.sandbox.engine.tasks.plain_files import NotPlain, open_plain

# How many of the names, in their order, are those of an execution.
_OF_EXECUTION: Final = len(RunKey._fields)


class NoLog(Exception):
    """There is no log; the message says what of it there is."""


class LogFiles:
    """The logs of attempts.

    Args:
        folder: the folder of all attempts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def attempt(self, names: Sequence[str]) -> AttemptFolder:
        """Return the folder of an attempt by project, domain, name, node and attempt."""
        return AttemptFolder(self._folder.joinpath(*map(path_part, names)))

    def open(self, names: Sequence[str], *, runs: bool) -> BinaryIO:
        """Open the log of an attempt; raise NoLog.

        Args:
            names: project, domain, name, node and attempt.
            runs: whether the execution runs now.
        """
        log = self.attempt(names).log
        try:
            return open_plain(self._folder, log.relative_to(self._folder).parts)
        except NotPlain as error:
            raise NoLog(_reason(names, self._found(names), runs=runs)) from error

    def _found(self, names: Sequence[str]) -> int:
        """Return how many of the names, from the first on, lead to a folder."""
        folder = self._folder
        for found, name in enumerate(names):
            folder /= path_part(name)
            try:
                is_folder = stat.S_ISDIR(folder.lstat().st_mode)
            except OSError:  # also for a name that no file can have
                is_folder = False
            if not is_folder:
                return found
        return len(names)


def _reason(names: Sequence[str], found: int, *, runs: bool) -> str:
    """Return why an attempt has no log."""
    *_, node, attempt = names
    execution = "/".join(names[:_OF_EXECUTION])
    if found > _OF_EXECUTION + 1:
        return f"The log of attempt {attempt} of node {node} of {execution} was removed, or has not begun yet."
    if runs:
        return f"Attempt {attempt} of node {node} of {execution} has no log yet: its task has not started."
    if found > _OF_EXECUTION:
        return f"The node {node} of {execution} has no log of an attempt {attempt}."
    if found == _OF_EXECUTION:
        return f"The execution {execution} has no log of a node {node}."
    return (
        f"There are no logs of an execution {execution}: this sandbox has not run it, none of its tasks has started, "
        "or its logs were removed."
    )
