"""Schedules of launch plans: checks at registration, and what is stored at activation."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from flyteidl.admin.schedule_pb2 import CronSchedule, FixedRate, FixedRateUnit, Schedule
from flyteidl.core.interface_pb2 import Parameter
from flyteidl.core.types_pb2 import SimpleType

from services.contracts.literals import type_text
from services.kit.errors import InvalidArgument
from services.registry.rules.cron import CronError, fires

# P and T must each be followed by a part. Every part may have a sign and a fraction, as in flytekit.
_PART = r"[-+]?\d+(?:[.,]\d+)?"
_ISO_DURATION = re.compile(
    rf"[-+]?P(?=.)({_PART}Y)?({_PART}M)?({_PART}W)?({_PART}D)?(T(?=.)({_PART}H)?({_PART}M)?({_PART}S)?)?", re.ASCII
)
_UNITS = {
    FixedRateUnit.MINUTE: timedelta(minutes=1),
    FixedRateUnit.HOUR: timedelta(hours=1),
    FixedRateUnit.DAY: timedelta(days=1),
}

NONE, CRON, RATE = "NONE", "CRON", "RATE"
SCHEDULED = "SCHED"  # launch_condition_type of a launch plan that is launched by its schedule


def schedule_type(schedule: Schedule) -> str:
    """Return NONE, CRON or RATE, by which lists filter (registry.md#stored-launch-plan)."""
    if schedule.cron_expression or schedule.HasField("cron_schedule"):
        return CRON
    return RATE if schedule.HasField("rate") else NONE


def normalized_schedule(schedule: Schedule) -> Schedule | None:
    """Return the cron_schedule or rate of an active launch plan; None for an empty schedule.

    The deprecated cron_expression means the same as cron_schedule.schedule (registry.md#schedules-of-launch-plans).
    """
    kickoff = schedule.kickoff_time_input_arg
    if cron := _cron(schedule):
        return Schedule(cron_schedule=CronSchedule(schedule=cron), kickoff_time_input_arg=kickoff)
    if schedule.rate.value:
        return Schedule(rate=schedule.rate, kickoff_time_input_arg=kickoff)
    return None


def check_schedule(schedule: Schedule, expected_inputs: Mapping[str, Parameter], now: datetime) -> None:
    """Raise InvalidArgument unless `schedule` can launch a plan with these inputs (registry.md#schedule-validation)."""
    if schedule.WhichOneof("ScheduleExpression") is None:
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
        _check_rate(schedule.rate, now)
    else:
        _check_cron(_cron(schedule))
        _check_offset(schedule.cron_schedule.offset)


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


def _check_rate(rate: FixedRate, now: datetime) -> None:
    """Raise InvalidArgument for a rate that could never fire, which flyteadmin stores."""
    if not rate.value:
        raise InvalidArgument("invalid value for schedule rate: it must be at least 1")
    if rate.unit not in _UNITS:
        raise InvalidArgument(f"invalid value for schedule rate unit: {rate.unit}")
    try:
        now + rate.value * _UNITS[rate.unit]
    except OverflowError as error:
        raise InvalidArgument(
            f"invalid value for schedule rate: {rate.value} {FixedRateUnit.Name(rate.unit)} never fires"
        ) from error


def _check_cron(expression: str) -> None:
    try:
        ever = fires(expression)
    except CronError as error:
        raise InvalidArgument(f"Invalid cron expression: {error}") from error
    if not ever:
        raise InvalidArgument(f"Invalid cron expression: {expression} never fires")


def _check_offset(offset: str) -> None:
    """Raise InvalidArgument unless the offset is valid; it has no effect, as in flyteadmin."""
    if offset and not _ISO_DURATION.fullmatch(offset):
        raise InvalidArgument(f"invalid value for schedule offset: [{offset}] is no ISO 8601 duration")
