"""SQL of executions that do not end by themselves: find and lock those that a job or a consumer must end.

Jobs skip rows that are locked: an event or another replica is about to change them, and the next round looks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flyteidl.admin.execution_pb2 import ExecutionClosure

from services.executions.rules.events.state import ExecutionKey, ExecutionState
from services.executions.store.tables import UNFINISHED_PHASES
from services.kit.db.binary_parameters import bigint, read_int, read_text, texts, timestamp
from services.kit.db.pipeline import Pipeline, Result, Statement

_STATE = "execution_project, execution_domain, execution_name, cluster, closure"
_KEY = "(execution_project, execution_domain, execution_name) = (%(project)b::text, %(domain)b::text, %(name)b::text)"
# As in the index of unfinished executions. Those that are SUCCEEDING or FAILING end within seconds: an index for them
# is not worth its cost.
_UNFINISHED = f"phase IN ({', '.join(repr(phase) for phase in UNFINISHED_PHASES)})"

# Rows of a former release have no aborting_since; they wait from their last change.
_LOCK_OVERDUE = Statement(f"""
SELECT {_STATE} FROM executions
WHERE phase = 'ABORTING' AND COALESCE(aborting_since, updated_at) < %(before)b::timestamptz
ORDER BY aborting_since
LIMIT %(most)b::bigint
FOR UPDATE SKIP LOCKED
""")
_POSTPONE = Statement(f"UPDATE executions SET aborting_since = now() WHERE {_KEY}")
_LOCK = Statement(f"SELECT {_STATE} FROM executions WHERE {_KEY} FOR UPDATE")
_UNCHANGED = Statement(f"""
SELECT execution_project, execution_domain, execution_name FROM executions
WHERE {_UNFINISHED} AND updated_at < %(before)b::timestamptz
""")
_LOCK_UNCHANGED = Statement(f"""
SELECT {_STATE} FROM executions
WHERE {_UNFINISHED} AND updated_at < %(before)b::timestamptz
    AND (execution_project, execution_domain, execution_name) IN (
        SELECT * FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[])
    )
FOR UPDATE SKIP LOCKED
""")
# Executions that nodes of others have launched and that have neither ended nor been terminated.
_LOCK_CHILDREN = Statement("""
SELECT child.id, child.execution_project, child.execution_domain, child.execution_name, child.closure,
    node.execution_name
FROM node_executions AS node
JOIN executions AS child ON child.parent_node_execution_id = node.id AND child.parent_node_execution_id <> 0
WHERE (node.execution_project, node.execution_domain, node.execution_name) IN (
        SELECT * FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[])
    )
    AND child.phase IN ('UNDEFINED', 'QUEUED', 'RUNNING', 'SUCCEEDING', 'FAILING')
FOR UPDATE OF child
""")


@dataclass(frozen=True)
class Child:
    """An execution that has not ended, and the name of the one whose node launched it."""

    id: int
    key: ExecutionKey
    closure: ExecutionClosure
    parent: str


def postpone(pipeline: Pipeline, key: ExecutionKey) -> None:
    """Restart the wait of an execution that is ABORTING, when the pipeline runs."""
    pipeline.put(_POSTPONE, _values(key))


async def lock_execution(pipeline: Pipeline, key: ExecutionKey) -> ExecutionState | None:
    """Lock and return an execution, waiting for its lock; None when it does not exist."""
    result = pipeline.put(_LOCK, _values(key))
    await pipeline.run()
    return next(iter(_states(result)), None)


async def lock_overdue(pipeline: Pipeline, before: datetime, most: int) -> list[ExecutionState]:
    """Lock and return at most `most` executions that are ABORTING since before `before`, the longest first."""
    result = pipeline.put(_LOCK_OVERDUE, {"before": timestamp(before), "most": bigint(most)})
    await pipeline.run()
    return _states(result)


async def unchanged_executions(pipeline: Pipeline, before: datetime) -> list[ExecutionKey]:
    """Return all unfinished executions that have not changed since `before`; each key takes a hundred bytes."""
    result = pipeline.put(_UNCHANGED, {"before": timestamp(before)})
    await pipeline.run()
    return [_execution_key(row) for row in result.rows]


async def lock_unchanged(pipeline: Pipeline, before: datetime, keys: Sequence[ExecutionKey]) -> list[ExecutionState]:
    """Lock and return those of `keys` that are unfinished and still have not changed since `before`."""
    result = pipeline.put(_LOCK_UNCHANGED, {"before": timestamp(before), **_columns(keys)})
    await pipeline.run()
    return _states(result)


async def lock_children(pipeline: Pipeline, keys: Sequence[ExecutionKey]) -> list[Child]:
    """Lock and return the executions that nodes of `keys` have launched and that have not ended."""
    result = pipeline.put(_LOCK_CHILDREN, _columns(keys))
    await pipeline.run()
    return [
        Child(
            read_int(row[0]),
            _execution_key(row[1:4]),
            ExecutionClosure.FromString(row[4] or b""),
            read_text(row[5]),
        )
        for row in result.rows
    ]


def _columns(keys: Sequence[ExecutionKey]) -> dict[str, bytes]:
    return {
        "projects": texts(key.project for key in keys),
        "domains": texts(key.domain for key in keys),
        "names": texts(key.name for key in keys),
    }


def _values(key: ExecutionKey) -> dict[str, bytes]:
    return {name: value.encode() for name, value in key._asdict().items()}


def _states(result: Result) -> list[ExecutionState]:
    return [
        ExecutionState(
            _execution_key(row),
            read_text(row[3]),
            ExecutionClosure.FromString(row[4] or b""),
        )
        for row in result.rows
    ]


def _execution_key(row: Sequence[bytes | None]) -> ExecutionKey:
    return ExecutionKey(read_text(row[0]), read_text(row[1]), read_text(row[2]))
