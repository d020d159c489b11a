"""The schedulable_entities table: schedules of launch plans that are or were active.

A row is inserted at the first activation of a version and never deleted; its timing never changes, as versions do not.
Its updated_at is the last activation or deactivation, from which a scheduler catches up
(registry.md#schedules-of-launch-plans).
"""

from datetime import datetime

from flyteidl.admin.schedule_pb2 import Schedule
from flyteidl.core.identifier_pb2 import Identifier

from services.kit.db.database import Connection
from services.registry.store.keys import WHERE_KEY, WHERE_NAME, key_of

_ACTIVATE = """
INSERT INTO schedulable_entities (created_at, updated_at, project, domain, name, version, cron_expression,
    fixed_rate_value, unit, kickoff_time_input_arg, active)
VALUES (%(now)s, %(now)s, %(project)s, %(domain)s, %(name)s, %(version)s, %(cron_expression)s, %(fixed_rate_value)s,
    %(unit)s, %(kickoff_time_input_arg)s, true)
ON CONFLICT (project, domain, name, version) DO UPDATE SET active = true, updated_at = excluded.updated_at
"""
_DEACTIVATE = f"UPDATE schedulable_entities SET active = false, updated_at = %(now)s WHERE {WHERE_NAME} AND active"
_DEACTIVATE_VERSION = f"UPDATE schedulable_entities SET active = false, updated_at = %(now)s WHERE {WHERE_KEY}"


async def activate(connection: Connection, identifier: Identifier, schedule: Schedule, now: datetime) -> None:
    """Insert or activate the row of a launch plan with `schedule`, a cron_schedule or a rate, as of `now`."""
    row = key_of(identifier) | {
        "now": now,
        "cron_expression": schedule.cron_schedule.schedule,
        "fixed_rate_value": schedule.rate.value,
        "unit": schedule.rate.unit,
        "kickoff_time_input_arg": schedule.kickoff_time_input_arg,
    }
    await connection.execute(_ACTIVATE, row, binary=True)


async def deactivate(connection: Connection, identifier: Identifier, now: datetime) -> None:
    """Deactivate the rows of all versions of the name, if there are any."""
    await connection.execute(_DEACTIVATE, key_of(identifier) | {"now": now}, binary=True)


async def deactivate_version(connection: Connection, identifier: Identifier, now: datetime) -> None:
    """Deactivate the row of this version, if there is one."""
    await connection.execute(_DEACTIVATE_VERSION, key_of(identifier) | {"now": now}, binary=True)
