"""The CPU that each part has used over the last minute.

The supervisor writes samples into a file; `status` compares the present with one that is about a minute old.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.sandbox.files import write_json

# The samples reach back so far, and a little more: `status` comes at any time between two samples.
_SECONDS = 60.0
# A sample reads some dozens of files of /proc, which takes five milliseconds.
_PAUSE_SECONDS = 15.0
_SAMPLES = 5

Sample = tuple[float, Mapping[str, float]]
"""A Unix time, and CPU seconds by process id; as text, as JSON has no other keys."""


def cpu_seconds(pid: int, *, whole_tree: bool = True) -> float:
    """Return the CPU seconds of a process, with its descendants, living and ended, unless `whole_tree` is false."""
    import psutil  # noqa: PLC0415 - it is slow to import, and the supervisor needs it only when all runs

    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        top = psutil.Process(pid)
        for process in (top, *(top.children(recursive=True) if whole_tree else ())):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = process.cpu_times()
                total += times.user + times.system
                if whole_tree:
                    total += times.children_user + times.children_system
    return total


async def sample_periodically(file: Path, pids: Callable[[], Mapping[int, bool]]) -> None:
    """Write samples of the processes until cancelled.

    Args:
        file: where the latest samples are.
        pids: returns the processes, and whether each counts with its descendants.
    """
    samples: deque[Sample] = deque(maxlen=_SAMPLES)
    while True:
        await asyncio.sleep(_PAUSE_SECONDS)
        used = {str(pid): cpu_seconds(pid, whole_tree=whole_tree) for pid, whole_tree in pids().items()}
        samples.append((time.time(), used))
        with contextlib.suppress(OSError):  # as on a full disk
            write_json(file, list(samples))


class CpuUse:
    """The CPU use since the sample that is nearest to a minute old; of a new process since its start."""

    def __init__(self, file: Path) -> None:
        try:
            samples: list[Sample] = json.loads(file.read_text())
        except (OSError, ValueError):
            samples = []
        now = time.time()
        self._since, self._used = min(samples, key=lambda sample: abs(now - sample[0] - _SECONDS), default=(now, {}))

    def cores(self, pid: int, started: float, *, whole_tree: bool = True) -> float:
        """Return the average number of cores that a process has kept busy.

        Args:
            pid: the process.
            started: the Unix time of its start.
            whole_tree: whether its descendants count.
        """
        used = cpu_seconds(pid, whole_tree=whole_tree) - self._used.get(str(pid), 0.0)
        since = self._since if str(pid) in self._used else started
        return max(0.0, used) / max(time.time() - since, 1.0)
