"""The launch_plans table: one row for each version, of which only the state changes.

At most one version of a name is active. A change of a state first locks the row of the name, so changes of one name
follow one another; the partial unique index alone would turn a race into an error.

There are no deadlocks. A change of a state locks the row of the name before rows of versions and schedules; another
change waits for the row of the name and holds no lock meanwhile. A registration first inserts the row of its version;
only registrations of the same version wait for it, and they hold no lock yet. Then it may wait for another registration
that is inserting the row of the name; that one waits for no lock any more, as its description and announcement are its
own rows. The workflow's row, which a launch plan refers to, never changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanClosure, LaunchPlanState
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from google.protobuf.timestamp_pb2 import Timestamp

from services.contracts.registry import LAUNCH_PLAN_REGISTERED
from services.kit.db.database import Connection
from services.kit.messaging.outbox import announcement_row
from services.kit.protobuf.wire import enum_field, message_field
from services.registry.store.keys import (
    REQUESTED,
    WHERE_KEY,
    WHERE_NAME,
    identifier_of,
    insert_new,
    key_of,
    keys_of,
)

_INSERT = insert_new(f"""
INSERT INTO launch_plans (created_at, updated_at, project, domain, name, version, workflow_id, state,
    schedule_type, launch_condition_type, digest, spec, closure)
VALUES (%(now)s, %(now)s, %(project)s, %(domain)s, %(name)s, %(version)s, %(workflow_id)s,
    {LaunchPlanState.INACTIVE}, %(schedule_type)s, %(launch_condition_type)s, %(digest)b, %(spec)b, %(closure)b)
""")
_MESSAGE = "spec, closure, state, updated_at"
_GET = f"SELECT digest, {_MESSAGE} FROM launch_plans WHERE {WHERE_KEY}"
_GET_ACTIVE = f"SELECT {_MESSAGE} FROM launch_plans WHERE {WHERE_NAME} AND state = {LaunchPlanState.ACTIVE}"
_GET_ALL = f"""
SELECT {_MESSAGE} FROM {REQUESTED}
LEFT JOIN launch_plans USING (project, domain, name, version) ORDER BY requested.number
"""
_TOTAL_BYTES = f"""
SELECT coalesce(sum(octet_length(spec) + octet_length(closure)), 0)::bigint
FROM {REQUESTED} JOIN launch_plans USING (project, domain, name, version)
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
    workflow_id: int  # column `id` of its workflow
    schedule_type: str  # NONE, CRON or RATE
    launch_condition_type: str | None
    digest: bytes
    name_state: int  # admin.NamedEntityState of the name, when this is its first version


async def insert(connection: Connection, new: New, now: datetime) -> bool:
    """Insert a plan, inactive, and its announcement; return whether it is new, and change nothing if not."""
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
        **announcement_row(LAUNCH_PLAN_REGISTERED, plan.id),
    }
    cursor = await connection.execute(_INSERT, row, binary=True)
    return await cursor.fetchone() is not None


async def get(connection: Connection, identifier: Identifier) -> Stored | None:
    """Return the launch plan; None when there is none."""
    cursor = await connection.execute(_GET, key_of(identifier), binary=True)
    row = await cursor.fetchone()
    return Stored(row[0], message_of(*row[1:])) if row else None


async def get_active(connection: Connection, project: str, domain: str, name: str) -> bytes | None:
    """Return the active version of a name, serialized; None when none is active."""
    cursor = await connection.execute(_GET_ACTIVE, {"project": project, "domain": domain, "name": name}, binary=True)
    row = await cursor.fetchone()
    return message_of(*row) if row else None


async def total_bytes(connection: Connection, identifiers: Sequence[Identifier]) -> int:
    """Return how many bytes the launch plans that `get_all` returns have together."""
    cursor = await connection.execute(_TOTAL_BYTES, keys_of(identifiers), binary=True)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def get_all(connection: Connection, identifiers: Sequence[Identifier]) -> list[bytes | None]:
    """Return the serialized launch plan of each identifier, None where there is none."""
    cursor = await connection.execute(_GET_ALL, keys_of(identifiers), binary=True)
    return [message_of(*row) if row[0] is not None else None for row in await cursor.fetchall()]


async def lock(connection: Connection, identifier: Identifier) -> LaunchPlan | None:
    """Return the launch plan without its closure, and lock the states of its name until the transaction ends.

    Return None when there is none.
    """
    locked = await connection.execute(_LOCK_NAME, key_of(identifier), binary=True)
    if await locked.fetchone() is None:
        # The first version may be committed just now, and could be read below; but nothing would be locked.
        return None
    cursor = await connection.execute(_SPEC, key_of(identifier), binary=True)
    row = await cursor.fetchone()
    return LaunchPlan.FromString(row[0]) if row else None


async def deactivate_others(connection: Connection, identifier: Identifier, now: datetime) -> list[Identifier]:
    """Make all other versions of the name inactive; return those that were active."""
    cursor = await connection.execute(_DEACTIVATE, key_of(identifier) | {"now": now}, binary=True)
    return [identifier_of(ResourceType.LAUNCH_PLAN, row) for row in await cursor.fetchall()]


async def set_state(connection: Connection, identifier: Identifier, state: int, now: datetime) -> int | None:
    """Set the state (admin.LaunchPlanState) of a version; return its previous state, None when there is no version."""
    cursor = await connection.execute(_SET_STATE, key_of(identifier) | {"state": state, "now": now}, binary=True)
    row = await cursor.fetchone()
    return row[0] if row else None


def message_of(spec: bytes, closure: bytes, state: int, updated_at: datetime) -> bytes:
    """Return the serialized admin.LaunchPlan of a row's columns.

    The closure is written as one field: not all parsers merge a message field that occurs twice.
    """
    return spec + message_field(LaunchPlan.CLOSURE_FIELD_NUMBER, closure + _changing(state, updated_at))


# The same pages are requested repeatedly, and serializing a time is most of the cost of an element of a page.
@lru_cache(maxsize=4096)
def _changing(state: int, updated_at: datetime) -> bytes:
    """Return the fields of a closure that change, serialized."""
    timestamp = Timestamp()
    timestamp.FromDatetime(updated_at)
    return enum_field(LaunchPlanClosure.STATE_FIELD_NUMBER, state) + message_field(
        LaunchPlanClosure.UPDATED_AT_FIELD_NUMBER, timestamp.SerializeToString()
    )
