"""Workflows that are recovered, terminated, and resumed after the death of the engine."""

import time
from pathlib import Path

from flytekit import LaunchPlan, Resources, dynamic, task, workflow

SMALL = Resources(cpu="200m", mem="50Mi")


def note(file: str, line: object) -> None:
    """Write a line, so that a test sees how often a task ran."""
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")


@task(requests=SMALL)
def noted(n: int, file: str) -> int:
    """Return `n` plus one."""
    note(file, n)
    return n + 1


@task(requests=SMALL)
def needs(file: str, n: int) -> int:
    """Fail until a file is there."""
    if not Path(file).exists():
        raise ValueError(f"{file} is missing")
    return n + 1


@dynamic(requests=SMALL)
def grows(n: int, notes: str, file: str) -> int:
    """Return two nodes, of which the second fails until a file is there."""
    note(notes, "dynamic")
    return needs(file=file, n=noted(n=n, file=notes))


@workflow
def inner(n: int, notes: str, file: str) -> int:
    """Fail in the second task."""
    return needs(file=file, n=noted(n=n, file=notes))


@workflow
def recoverable(notes: str, file: str) -> int:
    """Succeed in some nodes, and fail in a sub-workflow and a dynamic task."""
    first = noted(n=1, file=notes)
    return grows(n=inner(n=first, notes=notes, file=file), notes=notes, file=file)


@workflow
def recoverable_dynamic(notes: str, file: str) -> int:
    """Fail in a dynamic task."""
    return grows(n=noted(n=10, file=notes), notes=notes, file=file)


@task(requests=SMALL)
def waits(n: int) -> int:
    """Wait for a minute."""
    time.sleep(60)
    return n


@workflow
def waiting(n: int = 1) -> int:
    """Run a task that waits."""
    return waits(n=n)


plan = LaunchPlan.get_or_create(waiting, "lives.waiting_plan")


@workflow
def parent(n: int = 1) -> tuple[int, int]:
    """Run a task and a child that wait."""
    return waits(n=n), plan(n=n)


@task(requests=SMALL)
def step(n: int, file: str) -> int:
    """Write a line at the end of a short time."""
    time.sleep(0.2)
    note(file, n)
    return n + 1


@dynamic(requests=SMALL)
def five_steps(n: int, file: str) -> int:
    """Return a chain of five steps."""
    for _ in range(5):
        n = step(n=n, file=file)
    return n


@workflow
def long(file: str) -> int:
    """Run twenty tasks, one after the other."""
    total = step(n=0, file=file)
    for _ in range(8):
        total = step(n=total, file=file)
    return five_steps(n=five_steps(n=total, file=file), file=file)
