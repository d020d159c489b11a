"""The table that `status` prints: every part, whether it is ready now, how long it has run, its CPU and its memory."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from deploy.sandbox.cpu import CpuUse
from deploy.sandbox.part import Part
from deploy.sandbox.state import PartState, State

_MEGABYTE = 1024 * 1024
# PostgreSQL needs 16 for the next file of its log, NATS 8 for its largest message.
_SCARCE_MEGABYTES = 16
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def table(state: State, parts: Sequence[Part], cpu: CpuUse) -> tuple[str, bool]:
    """Return the table, and whether every part is ready now."""
    healths, problems = asyncio.run(_healths(state.parts, parts))
    rows = [("PART", "STATE", "PID", "UP", "RESTARTS", "CPU", "RSS MB", "PSS MB", "LAST END")]
    total = total_cores = 0.0
    for name, part in state.parts.items():
        rss, pss = _memory(part.pid)
        cores = cpu.cores(part.pid, part.since) if part.pid else 0.0
        total += pss
        total_cores += cores
        up = _duration(time.time() - part.since) if part.pid else "-"
        figures = (str(part.restarts), f"{cores:.3f}", f"{rss:.0f}", f"{pss:.0f}")
        rows.append((name, healths[name], str(part.pid or "-"), up, *figures, part.last_end))
    rss, pss = _memory(state.supervisor, whole_tree=False)
    cores = cpu.cores(state.supervisor, state.started, whole_tree=False)
    total += pss
    total_cores += cores
    up = _duration(time.time() - state.started)
    figures = ("", f"{cores:.3f}", f"{rss:.0f}", f"{pss:.0f}")
    rows.append(("supervisor", state.phase, str(state.supervisor), up, *figures, ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.extend(("", *problems) if problems else ())
    lines.append(f"CPU of all over the last minute: {total_cores:.3f} cores\nmemory of all (PSS): {total:.0f} MB\n")
    return "\n".join(lines), all(health == "ready" for health in healths.values())


async def _healths(states: Mapping[str, PartState], parts: Sequence[Part]) -> tuple[dict[str, str], list[str]]:
    """Return the health of each part, and a line for each problem of those that are not ready."""
    healths = dict(
        zip(states, await asyncio.gather(*(_health(states[part.name], part) for part in parts)), strict=True)
    )
    unhealthy = [part for part in parts if healths[part.name] not in {"ready", "stopped"}]
    problems = await asyncio.gather(*map(_problems, unhealthy))
    return healths, [line for lines in problems for line in lines]


async def _health(state: PartState, part: Part) -> str:
    if state.pid is None:
        return "stopped" if state.held else "down"
    if not await part.is_ready(state.pid):
        return "not ready" if state.ready else "starting"
    return "disk full" if part.data and _free_megabytes(part.data) < _SCARCE_MEGABYTES else "ready"


async def _problems(part: Part) -> list[str]:
    problems = [await part.problem()] if part.problem else []
    if part.data and (free := _free_megabytes(part.data)) < _SCARCE_MEGABYTES:
        problems.append(f"{free:.0f} MB are left on the disk of {part.data}")
    return [f"{part.name}: {problem}" for problem in problems if problem]


def _free_megabytes(folder: Path) -> float:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize / _MEGABYTE


def _memory(pid: int | None, *, whole_tree: bool = True) -> tuple[float, float]:
    """Return resident and proportional set size in MB. The second counts shared pages once, so it can be summed."""
    rss = pss = 0
    try:
        top = psutil.Process(pid or -1)
        processes = [top, *(top.children(recursive=True) if whole_tree else ())]
    except (psutil.NoSuchProcess, ValueError):
        return 0.0, 0.0
    for process in processes:
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        rss += memory.rss
        pss += getattr(memory, "pss", memory.uss)  # only Linux has the former
    return rss / _MEGABYTE, pss / _MEGABYTE


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
