"""Journals on disk: a file for each execution, with a header and a line for each input.

A line is written by one call and survives the death of the process. It is not forced to the disk: after a power failure
the last inputs may be missing, and what they stood for is done again.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Self

from deploy.sandbox.engine.graph.interface import Input
from deploy.sandbox.engine.graph.journal import line, read_line


class JournalFile:
    """The journal of one execution, to append to."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path, header: str) -> Self:
        """Begin a journal.

        Args:
            path: Its file; raises FileExistsError if there is one.
            header: One line, from which the run can be made again.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        journal = cls(path, descriptor)
        journal._write(header)
        return journal

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Open a journal to append to; a last line that was not written to its end is removed."""
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        content = path.read_bytes()
        os.ftruncate(descriptor, content.rfind(b"\n") + 1)
        return cls(path, descriptor)

    def append(self, received: Input, at: datetime) -> None:
        """Write an input."""
        self._write(line(received, at))

    def _write(self, text: str) -> None:
        data = memoryview(f"{text}\n".encode())
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Close and delete the file: the execution has ended, and the control plane has all its events."""
        self.close()
        self._path.unlink(missing_ok=True)


def read_header(path: Path) -> str:
    """Return the header of a journal; raise ValueError if it was not written to its end."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    if not first.endswith("\n"):
        raise ValueError(f"{path} has no header")
    return first.rstrip("\n")


def read_entries(path: Path) -> Iterator[tuple[datetime, Input]]:
    """Yield the times and inputs of a journal, without a last one that was not written to its end."""
    with path.open(encoding="utf-8") as file:
        next(file, "")
        for text in file:
            if text.endswith("\n"):
                yield read_line(text)
