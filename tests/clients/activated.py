"""Launch plans registered, activated and fetched by FlyteRemote, as JSON; run with the clients' own environment.

`activated.py FIRST SECOND`, two versions of the shapes, typed in their folder. Prints the result of each step.
FLYTECTL_CONFIG names the sandbox's config file.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flytekit import CronSchedule, LaunchPlan
from flytekit.configuration import Config
from flytekit.exceptions.user import FlyteEntityNotExistException, FlyteInvalidInputException
from flytekit.remote import FlyteRemote

PROJECT, DOMAIN = "flytesnacks", "development"
SCHEDULED, REMOTE = "shapes.hourly", "shapes.from_remote"


def active(remote: FlyteRemote, name: str) -> str | None:
    """Return the active version of a launch plan."""
    plan = remote.fetch_active_launchplan(name=name)
    return plan.id.version if plan else None


def activations(remote: FlyteRemote, first: str, second: str) -> Iterable[tuple[str, Any]]:
    """Yield the active version, step by step."""
    first_plan = remote.fetch_launch_plan(name=SCHEDULED, version=first)
    second_plan = remote.fetch_launch_plan(name=SCHEDULED, version=second)
    yield "latest", remote.fetch_launch_plan(name=SCHEDULED).id.version
    yield "scheduled", first_plan.is_scheduled
    yield "none", active(remote, SCHEDULED)
    for step, plan in (("activated", first_plan), ("again", first_plan), ("replaced", second_plan)):
        remote.activate_launchplan(plan.id)
        yield step, active(remote, SCHEDULED)
    remote.deactivate_launchplan(first_plan.id)
    yield "another deactivated", active(remote, SCHEDULED)
    remote.deactivate_launchplan(second_plan.id)
    yield "deactivated", active(remote, SCHEDULED)


def registrations(remote: FlyteRemote, first: str) -> Iterable[tuple[str, Any]]:
    """Register a launch plan of a registered workflow, register it again, and another one under its name."""
    sys.path.insert(0, str(Path.cwd()))
    from shapes.plans import timed

    schedule = CronSchedule(schedule="*/5 * * * *", kickoff_time_input_arg="at")
    plan = LaunchPlan.create(REMOTE, timed, fixed_inputs={"times": 7}, schedule=schedule, auto_activate=True)
    for step in ("registered", "registered again"):
        fetched = remote.register_launch_plan(plan, version=first)
        times = fetched.fixed_inputs.literals["times"].scalar.primitive.integer
        every = fetched.entity_metadata.schedule.cron_schedule.schedule
        yield step, [fetched.id.version, fetched.workflow_id.name, times, every]
    yield "activated by itself", active(remote, REMOTE)
    LaunchPlan.CACHE.pop(REMOTE)
    try:
        remote.register_launch_plan(LaunchPlan.create(REMOTE, timed, fixed_inputs={"times": 8}), version=first)
    except FlyteInvalidInputException as error:
        yield "another", str(error.__cause__.details())
    try:
        remote.fetch_launch_plan(name=REMOTE, version="absent")
    except FlyteEntityNotExistException as error:
        yield "absent", str(error.__cause__.details())


if __name__ == "__main__":
    remote = FlyteRemote(Config.auto(), PROJECT, DOMAIN)
    print(json.dumps(dict([*activations(remote, *sys.argv[1:]), *registrations(remote, sys.argv[1])])))
