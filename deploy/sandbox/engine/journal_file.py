"""The journal of a run as a file: a line for each input of its state machine, written before the machine gets it.

A line reaches the operating system at once, so it outlasts the end of this process, but it is not synced to disk: a
crash of the machine may lose the last ones, whose actions are then carried out again.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from deploy.sandbox.engine.graph.interface import Input
from deploy.sandbox.engine.graph.journal import line, read_line


class JournalFile:
    """The open journal of one run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")

    def entries(self) -> Iterator[tuple[datetime, Input]]:
        """Yield the inputs so far; cut a last line off that was not written to its end."""
        whole = 0
        with self._path.open("rb") as file:
            for text in file:
                if not text.endswith(b"\n"):
                    break
                whole += len(text)
                yield read_line(text.decode())
        self._file.truncate(whole)

    def append(self, value: Input, at: datetime) -> None:
        """Write an input and its time."""
        self._file.write(line(value, at).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
