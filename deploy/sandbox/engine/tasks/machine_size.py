"""The cores and the memory of this machine, or of the container in which the sandbox runs."""

import os
from fractions import Fraction
from pathlib import Path

import psutil

from deploy.sandbox.engine.tasks.budget import Share

_CGROUP = Path("/sys/fs/cgroup")
_CPU, _MEMORY = "cpu.max", "memory.max"
# What the kernel writes for "no limit".
_MAX = "max"


def machine_share(cores: float, memory_bytes: int, cgroup: Path = _CGROUP) -> Share:
    """Return what tasks share.

    Args:
        cores: the setting; 0 for those of the machine.
        memory_bytes: the setting; 0 for that of the machine.
        cgroup: the folder of the control group that limits a container, as the container sees it.
    """
    own_cores, own_memory = Fraction(len(os.sched_getaffinity(0))), Fraction(psutil.virtual_memory().total)
    limits = _limits(cgroup)
    return Share(
        Fraction(cores) if cores else min(own_cores, limits.cores or own_cores),
        Fraction(memory_bytes) if memory_bytes else min(own_memory, limits.memory or own_memory),
    )


def _limits(cgroup: Path) -> Share:
    """Return the limits of the control group; 0 for none."""
    quota, _, period = _read(cgroup / _CPU).partition(" ")
    memory = _read(cgroup / _MEMORY)
    return Share(
        Fraction(int(quota), int(period)) if quota.isdigit() and period.isdigit() else Fraction(0),
        Fraction(memory) if memory.isdigit() else Fraction(0),
    )


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return _MAX
