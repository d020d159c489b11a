"""CPU time and memory of processes on this machine, from /proc."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
# proc(5), counted from the field after the command's closing parenthesis.
_PARENT, _FIRST_TIME, _LAST_TIME = 1, 11, 14

GENERATOR = "generator"


@dataclass(frozen=True)
class _Process:
    parent: int
    seconds: float  # its own and those of children that it has reaped


def sandbox_pids(state: Path) -> dict[str, int]:
    """Return the process ids of the parts of a sandbox, by name, from its state.json."""
    parts = json.loads(state.read_text())["parts"]
    return {name: part["pid"] for name, part in parts.items()}


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds so far of each process with all its descendants, and of this one; 0 of a dead one."""
    processes = dict(_processes())
    children = _children(processes)

    def total(pid: int) -> float:
        own = processes[pid].seconds if pid in processes else 0.0
        return own + sum(map(total, children[pid]))

    return {name: total(pid) for name, pid in pids.items()} | {GENERATOR: _own()}


def resident_bytes(pids: Mapping[str, int]) -> dict[str, int]:
    """Return the memory of each process with all its descendants; shared pages count once."""
    children = _children(dict(_processes()))

    def total(pid: int) -> int:
        return _proportional_bytes(pid) + sum(map(total, children[pid]))

    return {name: total(pid) for name, pid in pids.items()}


def _children(processes: Mapping[int, "_Process"]) -> Mapping[int, list[int]]:
    children: dict[int, list[int]] = defaultdict(list)
    for pid, process in processes.items():
        children[process.parent].append(pid)
    return children


def _proportional_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended meanwhile
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def _own() -> float:
    times = os.times()
    return times.user + times.system


def _processes() -> Iterator[tuple[int, _Process]]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (process := _read(folder)):
            yield int(folder.name), process


def _read(folder: Path) -> _Process | None:
    try:
        text = (folder / "stat").read_text()
    except OSError:  # it has ended meanwhile
        return None
    fields = text.rpartition(")")[2].split()
    seconds = sum(map(int, fields[_FIRST_TIME : _LAST_TIME + 1])) / _TICKS
    return _Process(int(fields[_PARENT]), seconds)
