"""Schedules of launch plans: checks at registration, and what is stored at activation.

See registry.md#schedule-validation and registry.md#schedules-of-launch-plans.
"""

from datetime import UTC, datetime

import pytest
from flyteidl.admin.schedule_pb2 import CronSchedule, FixedRate, FixedRateUnit, Schedule
from flyteidl.core.interface_pb2 import Parameter, Variable
from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl.core.types_pb2 import LiteralType, SimpleType

from services.kit.errors import InvalidArgument
from services.registry.rules.schedules import check_schedule, normalized_schedule, schedule_type

NOW = datetime(2022, 1, 27, tzinfo=UTC)
CRON = CronSchedule(schedule="0 19 * * *")
INTEGER = Variable(type=LiteralType(simple=SimpleType.INTEGER))
DATETIME = Variable(type=LiteralType(simple=SimpleType.DATETIME))
REQUIRED = Parameter(var=INTEGER, required=True)
DEFAULTED = Parameter(var=INTEGER, default=Literal(scalar=Scalar(primitive=Primitive(integer=1))))
KICKOFF = Parameter(var=DATETIME, required=True)


@pytest.mark.parametrize(
    ("schedule", "inputs"),
    [
        (Schedule(), {"a": REQUIRED}),  # without a schedule nothing is checked
        (Schedule(cron_schedule=CRON), {"a": DEFAULTED}),
        (Schedule(cron_schedule=CRON, kickoff_time_input_arg="when"), {"when": KICKOFF}),
        (Schedule(cron_expression="@daily"), {}),
        *(
            (Schedule(cron_schedule=CronSchedule(schedule="@daily", offset=offset)), {})
            for offset in ("P1D", "-PT1H30M", "+P1Y2M3W4DT5H6M7.5S", "PT0,5S", "P2W", "P-1D", "PT1.5H")
        ),
        (Schedule(kickoff_time_input_arg="when"), {}),
        (Schedule(rate=FixedRate(value=1, unit=FixedRateUnit.DAY)), {}),
    ],
)
def test_valid_schedule_is_allowed(schedule: Schedule, inputs: dict[str, Parameter]) -> None:
    check_schedule(schedule, inputs, NOW)


@pytest.mark.parametrize(
    ("schedule", "inputs", "text"),
    [
        (
            Schedule(cron_schedule=CRON),
            {"b": REQUIRED, "a": REQUIRED},
            "Cannot create a launch plan with a schedule if there is an unbound required input. [a] is required",
        ),
        (
            Schedule(cron_schedule=CRON, kickoff_time_input_arg="when"),
            {"a": DEFAULTED},
            "Cannot create a schedule with a KickoffTimeInputArg that does not point to a free input. ",
        ),
        (
            Schedule(cron_schedule=CRON, kickoff_time_input_arg="a"),
            {"a": REQUIRED},
            "KickoffTimeInputArg must reference a datetime input. [a] is a [simple:INTEGER]",
        ),
        (Schedule(cron_expression="hourly"), {}, "Invalid cron expression: expected exactly 5 fields"),
        (Schedule(cron_schedule=CronSchedule(schedule="0 0 31 2 *")), {}, "Invalid cron expression: 0 0 31 2 * never"),
        # An empty expression could never fire.
        (Schedule(cron_schedule=CronSchedule()), {}, "Invalid cron expression: empty spec string"),
        (Schedule(cron_schedule=CronSchedule(offset="P1D")), {}, "Invalid cron expression: empty spec string"),
        (Schedule(cron_schedule=CronSchedule(schedule=" ")), {}, "Invalid cron expression: empty spec string"),
        (Schedule(cron_schedule=CronSchedule(schedule="TZ=UTC ")), {}, "Invalid cron expression: empty spec string"),
        (Schedule(cron_expression=""), {}, "Invalid cron expression: empty spec string"),
        (Schedule(cron_schedule=CronSchedule(schedule=",,,,")), {}, "Invalid cron expression: expected exactly 5"),
        (Schedule(cron_schedule=CronSchedule(schedule=", * * * *")), {}, "Invalid cron expression: , * * * * never"),
        *(
            (
                Schedule(cron_schedule=CronSchedule(schedule="@daily", offset=offset)),
                {},
                f"invalid value for schedule offset: [{offset}] is no ISO 8601 duration",
            )
            for offset in (
                "nonsense",
                "P",
                "PT",
                "-P",
                "P1",
                "1D",
                "P1S",
                "PT1D",
                "P1.DT1H",
                "P1D ",
                "p1d",
                "1h",
                "P1W٣D",
            )
        ),
        (Schedule(rate=FixedRate(value=0)), {}, "invalid value for schedule rate"),
        *(
            (
                Schedule(rate=FixedRate(value=value, unit=FixedRateUnit.DAY)),
                {},
                f"schedule rate: {value} DAY never fires",
            )
            for value in (3_000_000, 2**32 - 1)
        ),
        (Schedule(rate=FixedRate(value=1, unit=7)), {}, "invalid value for schedule rate unit"),  # type: ignore[arg-type]  # a number from a newer client
    ],
)
def test_invalid_schedule_is_invalid_argument(schedule: Schedule, inputs: dict[str, Parameter], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_schedule(schedule, inputs, NOW)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("schedule", "kind", "fires_by"),
    [
        (Schedule(), "NONE", None),
        (Schedule(kickoff_time_input_arg="when"), "NONE", None),
        (Schedule(cron_schedule=CronSchedule()), "CRON", None),
        (Schedule(cron_schedule=CRON), "CRON", Schedule(cron_schedule=CRON)),
        (Schedule(cron_expression="@daily"), "CRON", Schedule(cron_schedule=CronSchedule(schedule="@daily"))),
        (Schedule(rate=FixedRate(value=2)), "RATE", Schedule(rate=FixedRate(value=2))),
    ],
)
def test_schedule_type_and_effective_schedule(schedule: Schedule, kind: str, fires_by: Schedule | None) -> None:
    assert schedule_type(schedule) == kind
    assert normalized_schedule(schedule) == fires_by
