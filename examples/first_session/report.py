"""Three tasks, a workflow with default inputs and two outputs, and a launch plan that fixes one of the inputs."""

from typing import NamedTuple

from flytekit import LaunchPlan, task, workflow


class Report(NamedTuple):
    """The outputs of the workflow."""

    total: int
    text: str


@task
def double(count: int) -> int:
    """Return twice `count`."""
    return count * 2


@task
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@task
def describe(total: int, unit: str) -> str:
    """Return a number with its unit."""
    return f"{total} {unit}"


@workflow
def report(count: int = 3, unit: str = "apples") -> Report:
    """Return three times `count`, as a number and as text."""
    total = add(a=count, b=double(count=count))
    return Report(total=total, text=describe(total=total, unit=unit))


pears = LaunchPlan.get_or_create(report, name="report_of_pears", fixed_inputs={"unit": "pears"})
