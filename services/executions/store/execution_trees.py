"""An execution with all its nodes and attempts (executions.md#getexecutionmetrics)."""

from collections import defaultdict
from typing import NamedTuple

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)

from services.executions.rules.spans.requests import Node, Run, Task
from services.kit.db.database import Connection

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
# A row up to this size counts as one entity alone.
_USUAL_BYTES = 2 * 1024
# The bytes of rows beyond the usual size of each: an error or the custom information of a task may have megabytes.
_LARGE_BYTES = f"""
SELECT COALESCE(sum(greatest(size - %(usual)s, 0)), 0)::bigint FROM (
    SELECT octet_length(closure) + octet_length(node_execution_metadata) AS size FROM node_executions WHERE {_KEY}
    UNION ALL SELECT octet_length(closure) FROM task_executions WHERE {_KEY}
) AS sizes
"""
# id, node_id, parent_id, closure, node_execution_metadata, dynamic_workflow_remote_closure_reference
NodeRow = tuple[int, str, int | None, bytes, bytes, str]
# node_id, project, domain, name, version, retry_attempt, closure
TaskRow = tuple[str, str, str, str, str, int, bytes]


class Tree(NamedTuple):
    """The rows of an execution, in the order of lists; messages are serialized."""

    closure: bytes
    nodes: list[NodeRow]
    tasks: list[TaskRow]


async def large_bytes(connection: Connection, execution: WorkflowExecutionIdentifier) -> int:
    """Return how many bytes the rows of an execution's nodes and attempts have beyond the usual size of each."""
    cursor = await connection.execute(_LARGE_BYTES, _key(execution) | {"usual": _USUAL_BYTES}, binary=True)
    ((size,),) = await cursor.fetchall()
    return int(size)


async def read_tree(
    connection: Connection, execution: WorkflowExecutionIdentifier, most: int, *, with_nodes: bool
) -> Tree | None:
    """Return an execution with `most` nodes and `most` attempts at most; None when there is no such execution."""
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


def run_of(execution: WorkflowExecutionIdentifier, tree: Tree) -> Run:
    """Parse the rows of an execution."""
    attempts: defaultdict[str, list[Task]] = defaultdict(list)
    for node_id, project, domain, name, version, attempt, task in tree.tasks:
        identifier = TaskExecutionIdentifier(
            task_id=Identifier(
                resource_type=ResourceType.TASK, project=project, domain=domain, name=name, version=version
            ),
            node_execution_id=NodeExecutionIdentifier(node_id=node_id, execution_id=execution),
            retry_attempt=attempt,
        )
        attempts[node_id].append(Task(identifier, _times(task)))
    by_parent: defaultdict[int | None, list[Node]] = defaultdict(list)
    for row, node_id, parent, node, metadata, dynamic in tree.nodes:
        by_parent[parent].append(
            Node(
                NodeExecutionIdentifier(node_id=node_id, execution_id=execution),
                row,
                NodeExecutionClosure.FromString(node),
                NodeExecutionMetaData.FromString(metadata),
                dynamic,
                attempts.get(node_id, ()),
            )
        )
    return Run(execution, ExecutionClosure.FromString(tree.closure), by_parent)


def _times(closure: bytes) -> TaskExecutionClosure:
    """Return the times of an attempt without the rest of its closure, which may take many times its bytes in memory."""
    whole = TaskExecutionClosure.FromString(closure)
    times = TaskExecutionClosure()
    for name in ("created_at", "started_at", "updated_at", "duration"):
        if whole.HasField(name):
            getattr(times, name).CopyFrom(getattr(whole, name))
    return times


def _key(execution: WorkflowExecutionIdentifier) -> dict[str, object]:
    return {"project": execution.project, "domain": execution.domain, "name": execution.name}
