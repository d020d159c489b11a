"""Launch plans: with fixed and default inputs, schedules, every option, and as nodes of workflows."""

from datetime import UTC, datetime, timedelta

from flytekit import (
    Annotations,
    ConcurrencyLimitBehavior,
    ConcurrencyPolicy,
    CronSchedule,
    Email,
    FixedRate,
    Labels,
    LaunchPlan,
    PagerDuty,
    Slack,
    WorkflowExecutionPhase,
    conditional,
    dynamic,
    task,
    workflow,
)
from flytekit.models.common import RawOutputDataConfig
from flytekit.models.security import Identity, SecurityContext

from shapes.flows import inner, middle
from shapes.tasks import documented
from shapes.types import Color, Drawing, Point, enums


@task
def stamp(at: datetime, times: int) -> str:
    """Return the time and the number as text."""
    return f"{at} {times}"


@workflow
def timed(at: datetime, times: int = 1) -> str:
    """The workflow of the schedules."""
    return stamp(at=at, times=times)


@workflow
def colored(drawing: Drawing, color: Color = Color.RED, note: str | None = None) -> Color:
    """Inputs that are no simple values."""
    return enums(color=color, size="large")


plain = LaunchPlan.get_or_create(inner)
fixed = LaunchPlan.get_or_create(inner, name="shapes.fixed", fixed_inputs={"a": 4})
given = LaunchPlan.get_or_create(inner, name="shapes.given", default_inputs={"a": 5, "b": 6})
both = LaunchPlan.get_or_create(
    colored,
    name="shapes.both",
    default_inputs={"color": Color.BLUE},
    fixed_inputs={"drawing": Drawing("fixed", Color.RED, [Point(1.0)]), "note": "written"},
)

hourly = LaunchPlan.get_or_create(
    timed,
    name="shapes.hourly",
    default_inputs={"times": 2},
    schedule=CronSchedule(schedule="0 * * * *", kickoff_time_input_arg="at"),
)
by_alias = LaunchPlan.get_or_create(
    timed,
    name="shapes.by_alias",
    fixed_inputs={"at": datetime(2026, 1, 1, tzinfo=UTC)},
    schedule=CronSchedule(schedule="@daily"),
)
every_ten_minutes = LaunchPlan.get_or_create(
    timed,
    name="shapes.every_ten_minutes",
    fixed_inputs={"times": 3},
    schedule=FixedRate(duration=timedelta(minutes=10), kickoff_time_input_arg="at"),
)
every_two_days = LaunchPlan.get_or_create(
    timed,
    name="shapes.every_two_days",
    default_inputs={"at": datetime(2026, 1, 1, tzinfo=UTC)},
    schedule=FixedRate(duration=timedelta(days=2)),
)

laden = LaunchPlan.get_or_create(
    inner,
    name="shapes.laden",
    default_inputs={"a": 1},
    notifications=[
        Email(phases=[WorkflowExecutionPhase.SUCCEEDED], recipients_email=["a@example.org", "b@example.org"]),
        Slack(phases=[WorkflowExecutionPhase.FAILED, WorkflowExecutionPhase.ABORTED], recipients_email=["c@d.org"]),
        PagerDuty(phases=[WorkflowExecutionPhase.TIMED_OUT], recipients_email=["e@f.org"]),
    ],
    labels=Labels({"team": "a", "example.org/tier": "one"}),
    annotations=Annotations({"note": "anything, even: this"}),
    raw_output_data_config=RawOutputDataConfig("s3://bucket/raw"),
    max_parallelism=5,
    security_context=SecurityContext(run_as=Identity(iam_role="role", k8s_service_account="account")),
    overwrite_cache=True,
    concurrency=ConcurrencyPolicy(max_concurrency=2, behavior=ConcurrencyLimitBehavior.SKIP),
)
active = LaunchPlan.get_or_create(middle, name="shapes.active", default_inputs={"a": 8}, auto_activate=True)


@workflow
def launching(a: int) -> int:
    """Launch plans as nodes: alone, with an input fixed, and in a branch."""
    first = active(a=a)
    conditional("launched").if_(first > a).then(active(a=first)).else_().then(documented(a=first, b=1))
    _, second = fixed(b=first)
    return documented(a=second, b=2)


@dynamic(node_dependency_hints=[active])
def launched_when_known(count: int) -> list[int]:
    """Launch plans in a workflow that is made at run time."""
    return [active(a=index) for index in range(count)]
