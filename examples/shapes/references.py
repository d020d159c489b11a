"""References to registered entities: version v1 of the first session's example."""

from flytekit import reference_launch_plan, reference_task, reference_workflow, workflow

PROJECT, DOMAIN, VERSION = "flytesnacks", "development", "v1"


@reference_task(project=PROJECT, domain=DOMAIN, name="report.double", version=VERSION)
def double(count: int) -> int:
    """Refer to a task."""
    return count


@reference_workflow(project=PROJECT, domain=DOMAIN, name="report.report", version=VERSION)
def report(count: int, unit: str) -> tuple[int, str]:
    """Refer to a workflow, for launches; flytekit does not take a reference into another workflow."""
    return count, unit


@reference_launch_plan(project=PROJECT, domain=DOMAIN, name="report_of_pears", version=VERSION)
def report_of_pears(count: int) -> tuple[int, str]:
    """Refer to a launch plan."""
    return count, ""


@workflow
def referring(count: int) -> int:
    """A workflow of references."""
    twice = double(count=count)
    report_of_pears(count=twice)
    return double(count=twice)
