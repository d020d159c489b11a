"""Trivial tasks, for `bench.engine`; run by flytekit."""

from flytekit import Resources, map_task, task, workflow

# A core each, so as many run at a time as the machine has.
CORE = Resources(cpu="1", mem="20Mi")


@task(requests=CORE)
def increase(n: int) -> int:
    """Return the next number."""
    return n + 1


@workflow
def chain(n: int = 0) -> int:
    """Run twenty tasks one after the other."""
    for _ in range(20):
        n = increase(n=n)
    return n


@workflow
def wide(numbers: list[int]) -> list[int]:
    """Run a task for each number."""
    return map_task(increase)(n=numbers)
