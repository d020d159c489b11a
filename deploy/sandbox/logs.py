"""The log files of the parts: show their ends, follow them, bound their size."""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# A sandbox may run for weeks, and services write a line for each call.
MOST_LOG_BYTES = 50 * 1024 * 1024
LINES_AFTER_FAILURE = 20
_TAIL_BYTES = 256 * 1024
_FOLLOW_SECONDS = 0.2


def end_of(log: Path, lines: int = LINES_AFTER_FAILURE) -> str:
    """Return the last lines of `log`, indented, under its path."""
    return "\n".join([f"  the end of {log}:", *(f"    {line}" for line in tail(log, lines))])


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of `log`, without reading all of it; none when there is no such file."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
            return stream.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def bound(log: Path) -> None:
    """Move the content of a large log to `.1`; its writer appends, so it need not reopen the file."""
    try:
        if log.stat().st_size > MOST_LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            with log.open("r+b") as stream:
                stream.truncate(0)
    except OSError:
        return  # it does not exist yet, or there is no space for its copy now


def show(logs: Sequence[Path], *, lines: int, follow: bool) -> None:
    """Print the last `lines` of each log, with its part's name when there are several; with `follow` new lines too."""
    width = max(len(log.stem) for log in logs) if len(logs) > 1 else 0
    offsets = {log: log.stat().st_size if log.exists() else 0 for log in logs}
    for log in logs:
        for line in tail(log, lines):
            _print(log, line, width)
    while follow:
        sys.stdout.flush()
        time.sleep(_FOLLOW_SECONDS)
        for log in logs:
            for line in _fresh(log, offsets):
                _print(log, line, width)


def _fresh(log: Path, offsets: dict[Path, int]) -> Iterator[str]:
    if not log.exists():
        return
    if log.stat().st_size < offsets[log]:
        offsets[log] = 0
    with log.open("rb") as stream:
        stream.seek(offsets[log])
        for line in stream:
            if line.endswith(b"\n"):
                offsets[log] += len(line)
                yield line.decode(errors="replace").rstrip("\n")


def _print(log: Path, line: str, width: int) -> None:
    sys.stdout.write(f"{log.stem:{width}} | {line}\n" if width else f"{line}\n")
