"""Schedules of launch plans: what may be registered, and what the schedule clock is told at activation."""

from collections.abc import Mapping
from datetime import datetime

from flyteidl.admin.schedule_pb2 import CronSchedule, FixedRateUnit, Schedule
from flyteidl.core.interface_pb2 import Parameter
from flyteidl.core.types_pb2 import SimpleType

from services.contracts.literals import type_text
from services.kit.errors import InvalidArgument
from services.registry.rules.cron import CronError, parse

NONE, CRON, RATE = "NONE", "CRON", "RATE"
SCHEDULED = "SCHED"  # launch_condition_type of a launch plan that is launched by its schedule


def schedule_type(schedule: Schedule) -> str:
    """NONE, CRON or RATE, as lists filter on it (registry.md 7.5)."""
    if schedule.cron_expression or schedule.HasField("cron_schedule"):
        return CRON
    return RATE if schedule.HasField("rate") else NONE


def effective(schedule: Schedule) -> Schedule | None:
    """Return what an active launch plan fires by: a cron_schedule or a rate; None for an empty schedule (8).

    The deprecated cron_expression means the same as cron_schedule.schedule.
    """
    kickoff = schedule.kickoff_time_input_arg
    if cron := _cron(schedule):
        return Schedule(cron_schedule=CronSchedule(schedule=cron), kickoff_time_input_arg=kickoff)
    if schedule.rate.value:
        return Schedule(rate=schedule.rate, kickoff_time_input_arg=kickoff)
    return None


def check_schedule(schedule: Schedule, expected_inputs: Mapping[str, Parameter], now: datetime) -> None:
    """Raise InvalidArgument unless `schedule` can launch a plan with these expected inputs (registry.md 7.2)."""
    if schedule_type(schedule) == NONE:
        return
    kickoff = schedule.kickoff_time_input_arg
    for name in sorted(expected_inputs):
        if expected_inputs[name].required and name != kickoff:
            raise InvalidArgument(
                "Cannot create a launch plan with a schedule if there is an unbound required input. "
                f"[{name}] is required"
            )
    if kickoff:
        _check_kickoff(kickoff, expected_inputs)
    if schedule.HasField("rate"):
        _check_rate(schedule)
    elif cron := _cron(schedule):
        _check_cron(cron, now)


def _cron(schedule: Schedule) -> str:
    return schedule.cron_expression or schedule.cron_schedule.schedule


def _check_kickoff(kickoff: str, expected_inputs: Mapping[str, Parameter]) -> None:
    if kickoff not in expected_inputs:
        raise InvalidArgument(
            "Cannot create a schedule with a KickoffTimeInputArg that does not point to a free input. "
            f"[{kickoff}] is not free or does not exist."
        )
    kind = expected_inputs[kickoff].var.type
    if kind.simple != SimpleType.DATETIME:
        raise InvalidArgument(
            f"KickoffTimeInputArg must reference a datetime input. [{kickoff}] is a [{type_text(kind)}]"
        )


def _check_rate(schedule: Schedule) -> None:
    """A rate that could never fire is refused; the reference stores it."""
    if not schedule.rate.value:
        raise InvalidArgument("invalid value for schedule rate: it must be at least 1")
    if schedule.rate.unit not in FixedRateUnit.values():
        raise InvalidArgument(f"invalid value for schedule rate unit: {schedule.rate.unit}")


def _check_cron(expression: str, now: datetime) -> None:
    try:
        fires = parse(expression).following(now)
    except CronError as error:
        raise InvalidArgument(f"Invalid cron expression: {error}") from error
    if fires is None:
        raise InvalidArgument(f"Invalid cron expression: {expression} never fires")
