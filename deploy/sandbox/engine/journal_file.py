"""The journal of a run as a file: a line for each input of its state machine, written before the machine gets it.

A line reaches the operating system at once, so it outlasts the end of this process, but it is not synced to disk: a
crash of the machine may lose the last ones, whose actions are then carried out again.

The first line names the code of the state machine. Other code may decide otherwise about the same inputs, so a journal
that other code wrote is begun anew: the run starts again, and its attempts that have ended give their results again.
"""

import hashlib
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

from deploy.sandbox.engine import graph
from deploy.sandbox.engine.graph.inputs import Input
from deploy.sandbox.engine.graph.journal import line, read_line

_CODE: Final = "code"


class JournalFile:
    """The open journal of one run.

    Args:
        path: The file.
        code: What stands for the code of the state machine.
    """

    def __init__(self, path: Path, code: str = "") -> None:
        self._path = path
        self._file = path.open("ab")
        self._code = code or _code()
        self.begun_anew = False
        """Whether there was a journal that other code wrote."""

    def entries(self) -> list[tuple[datetime, Input]]:
        """Return the inputs so far; cut a last line off that was not written to its end."""
        header = json.dumps({_CODE: self._code})
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            self._file.truncate(sum(len(each.encode()) for each in lines[:-1]))
            lines.pop()
        if lines and lines[0].rstrip("\n") == header:
            return [read_line(each) for each in lines[1:]]
        self.begun_anew = bool(lines)
        self._file.truncate(0)
        self._write(header)
        return []

    def append(self, value: Input, at: datetime) -> None:
        """Write an input and its time."""
        self._write(line(value, at))

    def _write(self, text: str) -> None:
        self._file.write(f"{text}\n".encode())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@cache
def _code() -> str:
    """Return a digest of the state machine's code."""
    digest = hashlib.sha256()
    for folder in graph.__path__:
        for file in sorted(Path(folder).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
