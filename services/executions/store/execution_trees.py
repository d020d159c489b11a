"""An execution with all its nodes and attempts, read whole (executions.md section 9)."""

from typing import NamedTuple

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.executions.rules.spans.requests import NodeRow, TaskRow
from services.kit.db.database import Connection
from services.kit.lists.pages import USUAL_BYTES

_KEY = "execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s"
_CLOSURE = f"SELECT closure FROM executions WHERE {_KEY}"
_NODES = f"""
SELECT id, node_id, parent_id, closure, node_execution_metadata, dynamic_workflow_remote_closure_reference
FROM node_executions WHERE {_KEY} ORDER BY id LIMIT %(most)s
"""
_TASKS = f"""
SELECT node_id, project, domain, name, version, retry_attempt, closure
FROM task_executions WHERE {_KEY} ORDER BY id LIMIT %(most)s
"""
# Of closures, as far as they are larger than usual: an error or custom information of a task may have megabytes.
_LARGE_BYTES = f"""
SELECT COALESCE(sum(greatest(octet_length(closure) - %(usual)s, 0)), 0)::bigint FROM (
    SELECT closure FROM node_executions WHERE {_KEY} UNION ALL SELECT closure FROM task_executions WHERE {_KEY}
) AS closures
"""


class Tree(NamedTuple):
    """The rows of an execution, in the order in which they are listed; closures are serialized."""

    closure: bytes
    nodes: list[NodeRow]
    tasks: list[TaskRow]


async def large_bytes(connection: Connection, execution: WorkflowExecutionIdentifier) -> int:
    """Return how many bytes the closures of an execution's nodes and attempts have beyond the usual size of each."""
    cursor = await connection.execute(_LARGE_BYTES, _key(execution) | {"usual": USUAL_BYTES}, binary=True)
    ((size,),) = await cursor.fetchall()
    return int(size)


async def read_tree(
    connection: Connection, execution: WorkflowExecutionIdentifier, most: int, *, with_nodes: bool
) -> Tree | None:
    """Read an execution, of nodes and of attempts `most` at most; None when there is none."""
    key = _key(execution)
    cursor = await connection.execute(_CLOSURE, key, binary=True)
    row = await cursor.fetchone()
    if row is None:
        return None
    if not with_nodes:
        return Tree(row[0], [], [])
    limited = key | {"most": most}
    nodes = await (await connection.execute(_NODES, limited, binary=True)).fetchall()
    tasks = await (await connection.execute(_TASKS, limited, binary=True)).fetchall()
    return Tree(row[0], nodes, tasks)


def _key(execution: WorkflowExecutionIdentifier) -> dict[str, object]:
    return {"project": execution.project, "domain": execution.domain, "name": execution.name}
