"""The executions table: reads of single rows, and changes under a row lock."""

from dataclasses import dataclass
from typing import NamedTuple

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.core.identifier_pb2 import Identifier, NodeExecutionIdentifier, WorkflowExecutionIdentifier

from services.executions.rules.new_executions import Parent
from services.executions.store.tables import UNFINISHED_PHASES
from services.kit.db.database import Connection

_KEY = "execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s"
_READ = "execution_name, phase, spec, spec_inputs, closure, abort_cause, error_kind IS NOT NULL, execution_attributes"

_GET = f"SELECT {_READ} FROM executions WHERE {_KEY}"
_GET_DATA = f"SELECT inputs_uri, closure FROM executions WHERE {_KEY}"
_GET_SOURCE = f"SELECT id, spec, spec_inputs, user_inputs_uri FROM executions WHERE {_KEY}"
_GET_PARENT = """
SELECT node.id, execution.id, execution."user", execution.spec
FROM node_executions AS node
JOIN executions AS execution USING (execution_project, execution_domain, execution_name)
WHERE execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s
    AND node.node_id = %(node_id)s
"""
_LOCK = f"SELECT id, phase, closure, parent_node_execution_id FROM executions WHERE {_KEY} FOR UPDATE"
_SET_STATE = "UPDATE executions SET state = %(state)s, closure = %(closure)b, updated_at = now() WHERE id = %(id)s"
_SET_ABORTING = """
UPDATE executions
SET phase = 'ABORTING', closure = %(closure)b, abort_cause = %(cause)s, updated_at = now(),
    aborting_since = COALESCE(aborting_since, now())
WHERE id = %(id)s
"""
# Launches of a launch plan with a concurrency limit are stored one after the other, those of all its versions: no other
# one may be inserted between the count and the insert. The lock ends with the transaction.
_LOCK_LAUNCH_PLAN = "SELECT pg_advisory_xact_lock(hashtextextended(%(launch_plan)s, 0))"
_COUNT_UNFINISHED = f"""
SELECT count(*) FROM executions
WHERE launch_plan_project = %(project)s AND launch_plan_domain = %(domain)s AND launch_plan_name = %(name)s
    AND phase IN ({", ".join(repr(phase) for phase in UNFINISHED_PHASES)})
"""


class StoredExecution(NamedTuple):
    """The columns that GetExecution and ListExecutions return; messages are serialized."""

    name: str
    phase: str
    spec: bytes
    spec_inputs: bytes | None
    closure: bytes
    abort_cause: str
    failed: bool  # whether the closure has an error
    attributes: bytes = b""  # that act on the execution and are not in its spec


@dataclass(frozen=True)
class StoredData:
    """The URI of an execution's inputs, and the closure, which contains the outputs or their URI."""

    inputs_uri: str
    closure: bytes


@dataclass(frozen=True)
class Source:
    """The execution that a relaunch or recovery repeats."""

    id: int
    spec: ExecutionSpec
    user_inputs_uri: str


@dataclass(frozen=True)
class LockedExecution:
    """An execution whose row is locked until the transaction ends."""

    id: int
    phase: str
    closure: bytes
    parent_node_id: int  # 0 without one


async def get(connection: Connection, identifier: WorkflowExecutionIdentifier) -> StoredExecution | None:
    """Return an execution; None when there is no such execution."""
    cursor = await connection.execute(_GET, _key(identifier), binary=True)
    row = await cursor.fetchone()
    return StoredExecution(*row) if row else None


async def get_data(connection: Connection, identifier: WorkflowExecutionIdentifier) -> StoredData | None:
    """Return where the data of an execution is; None when there is no such execution."""
    cursor = await connection.execute(_GET_DATA, _key(identifier), binary=True)
    row = await cursor.fetchone()
    return StoredData(*row) if row else None


async def get_source(connection: Connection, identifier: WorkflowExecutionIdentifier) -> Source | None:
    """Return the execution for a relaunch or recovery; None when there is no such execution."""
    cursor = await connection.execute(_GET_SOURCE, _key(identifier), binary=True)
    row = await cursor.fetchone()
    if row is None:
        return None
    row_id, spec, spec_inputs, user_inputs_uri = row
    source = Source(row_id, ExecutionSpec.FromString(spec), user_inputs_uri)
    if spec_inputs is not None:
        source.spec.inputs.ParseFromString(spec_inputs)
    return source


async def get_parent(connection: Connection, node: NodeExecutionIdentifier) -> Parent | None:
    """Return what a child inherits from `node` and its execution; None when the node is unknown."""
    parameters = {**_key(node.execution_id), "node_id": node.node_id}
    cursor = await connection.execute(_GET_PARENT, parameters, binary=True)
    row = await cursor.fetchone()
    return Parent(row[0], row[1], row[2], ExecutionSpec.FromString(row[3])) if row else None


async def lock_and_count_unfinished(connection: Connection, launch_plan: Identifier) -> int:
    """Lock out other launches of `launch_plan` until the transaction ends; return its number of unfinished executions.

    All versions of the launch plan count together.
    """
    text = f"{launch_plan.project}/{launch_plan.domain}/{launch_plan.name}"
    await connection.execute(_LOCK_LAUNCH_PLAN, {"launch_plan": text})
    cursor = await connection.execute(_COUNT_UNFINISHED, _key(launch_plan))
    (unfinished,) = await cursor.fetchone() or (0,)
    return int(unfinished)


async def lock(connection: Connection, identifier: WorkflowExecutionIdentifier) -> LockedExecution | None:
    """Lock an execution until the transaction ends and return it; None when there is no such execution."""
    cursor = await connection.execute(_LOCK, _key(identifier), binary=True)
    row = await cursor.fetchone()
    return LockedExecution(*row) if row else None


async def set_state(connection: Connection, row_id: int, state: int, closure: bytes) -> None:
    """Archive or reactivate the locked execution."""
    await connection.execute(_SET_STATE, {"id": row_id, "state": state, "closure": closure})


async def set_aborting(connection: Connection, row_id: int, cause: str, closure: bytes) -> None:
    """Make the locked execution ABORTING."""
    await connection.execute(_SET_ABORTING, {"id": row_id, "cause": cause, "closure": closure})


def _key(identifier: WorkflowExecutionIdentifier | Identifier) -> dict[str, str]:
    return {"project": identifier.project, "domain": identifier.domain, "name": identifier.name}
