"""Workflows that the local engine runs in the tests: conditions, nested workflows, gates, caches, failure handlers."""

import time
from datetime import timedelta
from pathlib import Path

from flytekit import (
    ContainerTask,
    Deck,
    LaunchPlan,
    Resources,
    approve,
    conditional,
    current_context,
    dynamic,
    kwtypes,
    map_task,
    sleep,
    task,
    wait_for_input,
    workflow,
)
from flytekit.core.workflow import WorkflowFailurePolicy
from flytekit.exceptions.user import FlyteRecoverableException
from flytekit.types.error.error import FlyteError

SMALL = Resources(cpu="200m", mem="50Mi")


@task(requests=SMALL)
def double(n: int) -> int:
    """Return twice `n`."""
    return 2 * n


@task(requests=SMALL)
def negate(n: int) -> int:
    """Return minus `n`."""
    return -n


@workflow
def branched(n: int) -> int:
    """Nest conditions; fail for 0."""
    return (
        conditional("sign")
        .if_(n > 10)
        .then(conditional("size").if_(n > 100).then(negate(n=n)).else_().then(double(n=n)))
        .elif_(n < 0)
        .then(negate(n=n))
        .else_()
        .fail("the number is between 0 and 10")
    )


@workflow
def inner(n: int) -> int:
    """Double twice."""
    return double(n=double(n=n))


plan = LaunchPlan.get_or_create(inner, name="shapes.inner_plan")


@workflow
def nested(n: int = 1) -> tuple[int, int]:
    """Run a workflow within this one, and one as an execution of its own."""
    return inner(n=n), plan(n=n)


@workflow
def gated() -> int:
    """Sleep, wait for a number, and for an approval."""
    pause = sleep(timedelta(seconds=1))
    given = wait_for_input("number", timeout=timedelta(minutes=5), expected_type=int)
    result = double(n=given)
    pause >> result
    return approve(result, "good", timeout=timedelta(minutes=5))


@task(requests=SMALL)
def clean_up(n: int, file: str, err: FlyteError | None = None) -> None:
    """Write that a workflow failed."""
    Path(file).write_text(f"{n} {err.failed_node_id if err else ''}")


@task(requests=SMALL)
def refuses(n: int) -> int:
    """Raise."""
    if n:
        raise RuntimeError("refused")
    return n


@workflow(on_failure=clean_up)
def handled(n: int, file: str) -> int:  # noqa: ARG001 - the failure handler has the same inputs
    """Fail, and clean up."""
    return refuses(n=n)


@workflow(failure_policy=WorkflowFailurePolicy.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE)
def late(n: int = 4) -> tuple[int, int]:
    """Fail after the other node has ended."""
    return refuses(n=n), double(n=double(n=n))


@task(requests=SMALL, timeout=timedelta(seconds=2))
def hangs() -> int:
    """Take too long."""
    time.sleep(600)
    return 1


@workflow
def timed_out() -> int:
    """Have a task that takes too long."""
    return hangs()


@task(requests=SMALL, cache=True, cache_version="1.0", cache_ignore_input_vars=("file",))
def counted(n: int, file: str) -> int:
    """Count calls in a file."""
    with Path(file).open("a") as log:
        log.write("called\n")
    return n


@workflow
def cached(n: int, file: str) -> int:
    """Use the cache: of another execution, and of another node."""
    first = counted(n=n, file=file)
    second = counted(n=first, file="/nowhere")
    first >> second
    return second


@task(requests=SMALL, cache=True, cache_serialize=True, cache_version="1.0")
def lonely(n: int, file: str) -> int:
    """Count calls in a file."""
    with Path(file).open("a") as log:
        log.write("called\n")
    time.sleep(1)
    return n


@workflow
def serialized(n: int, file: str) -> tuple[int, int, int]:
    """Call the same task three times at once."""
    return lonely(n=n, file=file), lonely(n=n, file=file), lonely(n=n, file=file)


@task(requests=SMALL)
def odd(n: int) -> int:
    """Raise for even numbers."""
    if n % 2 == 0:
        raise ValueError(f"{n} is even")
    return n


@workflow
def mostly(n: list[int]) -> list[int | None]:
    """Map a task of which some fail."""
    return map_task(odd, concurrency=2, min_success_ratio=0.5)(n=n)


@task(requests=SMALL, retries=2)
def resumes() -> int:
    """Continue from a checkpoint."""
    checkpoint = current_context().checkpoint
    done = int((checkpoint.read() or b"0").decode())
    checkpoint.write(str(done + 1).encode())
    if done < 2:
        raise FlyteRecoverableException("not yet")
    return done


@workflow
def checkpointed() -> int:
    """Use checkpoints."""
    return resumes()


@task(requests=SMALL, enable_deck=True)
def shows(n: int) -> int:
    """Write a deck."""
    Deck("mine", "<b>deck</b>")
    return n


@workflow
def decked(n: int = 1) -> int:
    """Write a deck."""
    return shows(n=n)


shell = ContainerTask(
    name="shapes.shell",
    image="example.org/none:1",
    inputs=kwtypes(n=int),
    requests=SMALL,
    command=["sh", "-c", "echo got $0 > note; test $(cat note | cut -d' ' -f2) = 3", "{{.inputs.n}}"],
)


@workflow
def raw(n: int) -> None:
    """Run a command of an image."""
    shell(n=n)


@task(requests=SMALL)
def either(value: int | str, maybe: int | None = None) -> str:
    """Return types."""
    return f"{type(value).__name__} {maybe}"


@workflow
def unions(value: int | str = "x") -> str:
    """Pass unions."""
    return either(value=value)


@dynamic(requests=SMALL)
def deeper(n: int) -> int:
    """Run a workflow, a launch plan and a dynamic task."""
    total = double(n=n)
    if n > 0:
        total = deeper(n=n - 1)
    return double(n=total)


@workflow
def recursive(n: int = 2) -> int:
    """Run dynamic tasks within dynamic tasks."""
    return deeper(n=n)
