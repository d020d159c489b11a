"""The table that `status` prints: every part, whether it answers now, how long it runs, and its memory."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import psutil

from deploy.sandbox.part import Part
from deploy.sandbox.state import PartState, State

_MEGABYTE = 1024 * 1024
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def table(state: State, parts: Sequence[Part]) -> tuple[str, bool]:
    """The table, and whether every part answers now."""
    healths = asyncio.run(_healths(state.parts, parts))
    rows = [("PART", "STATE", "PID", "UP", "RESTARTS", "RSS MB", "PSS MB", "LAST END")]
    total = 0.0
    for name, part in state.parts.items():
        rss, pss = _memory(part.pid)
        total += pss
        up = _duration(time.time() - part.since) if part.pid else "-"
        memory = (f"{rss:.0f}", f"{pss:.0f}")
        rows.append((name, healths[name], str(part.pid or "-"), up, str(part.restarts), *memory, part.last_end))
    rss, pss = _memory(state.supervisor, whole_tree=False)
    total += pss
    up = _duration(time.time() - state.started)
    rows.append(("supervisor", state.phase, str(state.supervisor), up, "", f"{rss:.0f}", f"{pss:.0f}", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.append(f"memory of all (PSS): {total:.0f} MB\n")
    return "\n".join(lines), all(health == "ready" for health in healths.values())


async def _healths(states: Mapping[str, PartState], parts: Sequence[Part]) -> dict[str, str]:
    async def health(part: Part) -> str:
        state = states[part.name]
        if state.pid is None:
            return "stopped" if state.held else "down"
        if await part.ready(state.pid):
            return "ready"
        return "not ready" if state.ready else "starting"

    return dict(zip(states, await asyncio.gather(*map(health, parts)), strict=True))


def _memory(pid: int | None, *, whole_tree: bool = True) -> tuple[float, float]:
    """Resident and proportional set size in MB. The second counts shared pages once, and so may be added up."""
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
        pss += getattr(memory, "pss", memory.uss)  # only Linux tells the former
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
