"""The launch_plans table: one row a version, of which only the state changes.

At most one version of a name is active. Whoever changes a state first locks the row of the name, so that changes of
one name follow one another; the partial unique index would only turn a race into a failure.

No two calls can wait for each other. A change of a state holds the row of the name when it comes to rows of versions
and schedules, so whoever else wants those waits at the name and holds nothing. A registration writes the row of its
version first, for which only registrations of the same version wait, holding nothing yet; it waits once more, when the
row of a new name is being made by another registration, and that one waits for nobody any more: what it writes then,
description and fact, is its own. The workflow's row, which a launch plan refers to, never changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanClosure, LaunchPlanState
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.db.database import Connection
from services.kit.protobuf.wire import enum_field, message_field
from services.registry.store.keys import (
    ASKED,
    NAME_OF_NEW,
    WHERE_KEY,
    WHERE_NAME,
    identifier_of,
    key_of,
    keys_of,
)

_INSERT = f"""
WITH new AS (
    INSERT INTO launch_plans (created_at, updated_at, project, domain, name, version, workflow_id, state,
        schedule_type, launch_condition_type, digest, spec, closure)
    VALUES (%(now)s, %(now)s, %(project)s, %(domain)s, %(name)s, %(version)s, %(workflow_id)s,
        {LaunchPlanState.INACTIVE}, %(schedule_type)s, %(launch_condition_type)s, %(digest)b, %(spec)b, %(closure)b)
    ON CONFLICT (project, domain, name, version) DO NOTHING
    RETURNING id
), {NAME_OF_NEW}
SELECT id FROM new
"""
_MESSAGE = "spec, closure, state, updated_at"
_GET = f"SELECT digest, {_MESSAGE} FROM launch_plans WHERE {WHERE_KEY}"
_GET_ACTIVE = f"SELECT {_MESSAGE} FROM launch_plans WHERE {WHERE_NAME} AND state = {LaunchPlanState.ACTIVE}"
_GET_ALL = f"""
SELECT {_MESSAGE} FROM {ASKED}
LEFT JOIN launch_plans USING (project, domain, name, version) ORDER BY asked.number
"""
_LOCK_NAME = f"""
SELECT id FROM named_entities WHERE resource_type = {ResourceType.LAUNCH_PLAN} AND {WHERE_NAME} FOR UPDATE
"""
_SPEC = f"SELECT spec FROM launch_plans WHERE {WHERE_KEY}"
_DEACTIVATE = f"""
UPDATE launch_plans SET state = {LaunchPlanState.INACTIVE}, updated_at = %(now)s
WHERE {WHERE_NAME} AND state = {LaunchPlanState.ACTIVE} AND version <> %(version)s
RETURNING project, domain, name, version
"""
_SET_STATE = f"""
UPDATE launch_plans SET state = %(state)s, updated_at = %(now)s FROM (
    SELECT id, state FROM launch_plans WHERE {WHERE_KEY}
) AS before
WHERE launch_plans.id = before.id
RETURNING before.state
"""


@dataclass(frozen=True)
class Stored:
    """A registered launch plan."""

    digest: bytes
    message: bytes  # admin.LaunchPlan


@dataclass(frozen=True)
class New:
    """A launch plan to register."""

    plan: LaunchPlan  # without state and updated_at
    workflow_id: int  # the row of its workflow
    schedule_type: str  # NONE, CRON or RATE
    launch_condition_type: str | None
    digest: bytes
    name_state: int  # admin.NamedEntityState of the name, when this is its first version


async def insert(connection: Connection, new: New, now: datetime) -> bool:
    """Add a plan, inactive; answers whether it is new. A version that is there already stays as it is."""
    plan = new.plan
    row = key_of(plan.id) | {
        "now": now,
        "resource_type": ResourceType.LAUNCH_PLAN,
        "name_state": new.name_state,
        "workflow_id": new.workflow_id,
        "schedule_type": new.schedule_type,
        "launch_condition_type": new.launch_condition_type,
        "digest": new.digest,
        "spec": LaunchPlan(id=plan.id, spec=plan.spec).SerializeToString(),
        "closure": plan.closure.SerializeToString(),
    }
    cursor = await connection.execute(_INSERT, row, binary=True)
    return await cursor.fetchone() is not None


async def get(connection: Connection, identifier: Identifier) -> Stored | None:
    """Return the launch plan; None when there is none."""
    cursor = await connection.execute(_GET, key_of(identifier), binary=True)
    row = await cursor.fetchone()
    return Stored(row[0], decode_frame(*row[1:])) if row else None


async def get_active(connection: Connection, project: str, domain: str, name: str) -> bytes | None:
    """Return the active version of a name, serialized; None when none is active."""
    cursor = await connection.execute(_GET_ACTIVE, {"project": project, "domain": domain, "name": name}, binary=True)
    row = await cursor.fetchone()
    return decode_frame(*row) if row else None


async def get_all(connection: Connection, identifiers: Sequence[Identifier]) -> list[bytes | None]:
    """Return the serialized launch plan of each identifier, None where there is none."""
    cursor = await connection.execute(_GET_ALL, keys_of(identifiers), binary=True)
    return [decode_frame(*row) if row[0] is not None else None for row in await cursor.fetchall()]


async def lock(connection: Connection, identifier: Identifier) -> LaunchPlan | None:
    """Return the launch plan without its closure; until the transaction ends no state of its name changes elsewhere.

    None when there is none.
    """
    await connection.execute(_LOCK_NAME, key_of(identifier), binary=True)
    cursor = await connection.execute(_SPEC, key_of(identifier), binary=True)
    row = await cursor.fetchone()
    return LaunchPlan.FromString(row[0]) if row else None


async def deactivate_others(connection: Connection, identifier: Identifier, now: datetime) -> list[Identifier]:
    """Make every version of the name but this one inactive; answers which were active."""
    cursor = await connection.execute(_DEACTIVATE, key_of(identifier) | {"now": now}, binary=True)
    return [identifier_of(ResourceType.LAUNCH_PLAN, row) for row in await cursor.fetchall()]


async def set_state(connection: Connection, identifier: Identifier, state: int, now: datetime) -> int | None:
    """Give the version this state (admin.LaunchPlanState); answers which it had, None when there is no such version."""
    cursor = await connection.execute(_SET_STATE, key_of(identifier) | {"state": state, "now": now}, binary=True)
    row = await cursor.fetchone()
    return row[0] if row else None


def decode_frame(spec: bytes, closure: bytes, state: int, updated_at: datetime) -> bytes:
    """Put a row's columns together to the serialized admin.LaunchPlan.

    The closure is made one message: parsers of other languages do not all merge a field that comes twice.
    """
    return spec + message_field(LaunchPlan.CLOSURE_FIELD_NUMBER, closure + _changing(state, updated_at))


# The same pages are asked for again and again, and making a time is most of what an element of a page costs.
@lru_cache(maxsize=4096)
def _changing(state: int, updated_at: datetime) -> bytes:
    """Return what of a closure changes."""
    moment = Timestamp()
    moment.FromDatetime(updated_at)
    return enum_field(LaunchPlanClosure.STATE_FIELD_NUMBER, state) + message_field(
        LaunchPlanClosure.UPDATED_AT_FIELD_NUMBER, moment.SerializeToString()
    )
