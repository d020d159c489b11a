"""Reads of the node_executions table (executions.md#node-executions)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier
from sqlalchemy import Boolean, DateTime, Select, and_, cast, literal_column, null

from services.executions.store.execution_lists import EXECUTION, same_execution
from services.executions.store.tables import executions, node_executions
from services.kit.db.database import Connection
from services.kit.lists.pages import Page, RowPage
from services.kit.lists.query import Column, Entity, Listing, ListQuery, ValueType
from services.kit.lists.statements import scope_conditions

_KEY = (
    "execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s "
    "AND node_id = %(node_id)s"
)
# Rows of event version 0 do not have the flag of parents (executions.md#getnodeexecution). The order is an index's:
# without it PostgreSQL would scan the whole table for the children of a leaf when few parents have many.
_CHILDREN = """{node}.internal_data = ''::bytea AND (
    SELECT child.id FROM node_executions AS child WHERE child.parent_id = {node}.id
    ORDER BY child.created_at, child.id LIMIT 1
) IS NOT NULL"""
_GET = f"""
SELECT node_id, input_uri, closure, node_execution_metadata, error_kind IS NOT NULL, children,
    children AND dynamic_workflow_remote_closure_reference <> ''
FROM node_executions AS node,
    LATERAL (SELECT {_CHILDREN.format(node="node")} AS children) AS version_0
WHERE {_KEY}
"""
_GET_ID = f"SELECT id FROM node_executions WHERE {_KEY}"
_GET_DATA = f"""
SELECT input_uri, closure, dynamic_workflow_remote_closure_reference FROM node_executions WHERE {_KEY}
"""

NODE_EXECUTION = Entity(
    "ne",
    {
        "id": Column(node_executions.c.id, ValueType.INTEGER),
        "created_at": Column(node_executions.c.created_at, ValueType.TIMESTAMP),
        "updated_at": Column(node_executions.c.updated_at, ValueType.TIMESTAMP),
        "deleted_at": Column(cast(null(), DateTime(timezone=True)), ValueType.TIMESTAMP),
        "execution_project": Column(node_executions.c.execution_project),
        "execution_domain": Column(node_executions.c.execution_domain),
        "execution_name": Column(node_executions.c.execution_name),
        "node_id": Column(node_executions.c.node_id),
        "phase": Column(node_executions.c.phase),
        "input_uri": Column(node_executions.c.input_uri),
        "closure": Column(node_executions.c.closure, ValueType.BYTES),
        "started_at": Column(node_executions.c.started_at, ValueType.TIMESTAMP),
        "node_execution_created_at": Column(node_executions.c.node_execution_created_at, ValueType.TIMESTAMP),
        "node_execution_updated_at": Column(node_executions.c.node_execution_updated_at, ValueType.TIMESTAMP),
        "duration": Column(node_executions.c.duration, ValueType.DURATION),
        "node_execution_metadata": Column(node_executions.c.node_execution_metadata, ValueType.BYTES),
        "parent_id": Column(node_executions.c.parent_id, ValueType.INTEGER),
        "parent_task_execution_id": Column(node_executions.c.parent_task_execution_id, ValueType.INTEGER),
        "error_kind": Column(node_executions.c.error_kind),
        "error_code": Column(node_executions.c.error_code),
        "cache_status": Column(node_executions.c.cache_status),
        "dynamic_workflow_remote_closure_reference": Column(
            node_executions.c.dynamic_workflow_remote_closure_reference
        ),
        "internal_data": Column(node_executions.c.internal_data, ValueType.BYTES),
    },
)

_LISTED_CHILDREN = literal_column(f"({_CHILDREN.format(node=node_executions.name)})", Boolean)
# In the order of the fields of StoredNodeExecution.
_LISTED = (
    node_executions.c.node_id,
    node_executions.c.input_uri,
    node_executions.c.closure,
    node_executions.c.node_execution_metadata,
    node_executions.c.error_kind.is_not(None),
    _LISTED_CHILDREN,
    and_(_LISTED_CHILDREN, node_executions.c.dynamic_workflow_remote_closure_reference != literal_column("''")),
)

LISTING = Listing(
    prefix="node_execution",
    primary=NODE_EXECUTION,
    tie_break=node_executions.c.id,
    joined={"execution": EXECUTION},
    # In the order of insertion (lists.md#sort): the events of an execution are applied one after the other.
    default_order=(node_executions.c.created_at, node_executions.c.id),
)


class StoredNodeExecution(NamedTuple):
    """The columns that node RPCs return; the two flags are set for event version 0 only; messages are serialized."""

    node_id: str
    input_uri: str
    closure: bytes
    metadata: bytes
    failed: bool  # whether the closure has an error
    has_children: bool
    has_dynamic_children: bool


@dataclass(frozen=True)
class StoredData:
    """The URIs of a node's inputs and dynamic workflow, and the closure, which contains the outputs or their URI."""

    input_uri: str
    closure: bytes
    dynamic_workflow_uri: str


async def get(connection: Connection, node: NodeExecutionIdentifier) -> StoredNodeExecution | None:
    """Return a node execution; None when there is no such node."""
    cursor = await connection.execute(_GET, _key(node), binary=True)
    row = await cursor.fetchone()
    return StoredNodeExecution(*row) if row else None


async def get_id(connection: Connection, node: NodeExecutionIdentifier) -> int | None:
    """Return the row id, which is the parent id of children; None when there is no such node."""
    cursor = await connection.execute(_GET_ID, _key(node), binary=True)
    row = await cursor.fetchone()
    return row[0] if row else None


async def get_data(connection: Connection, node: NodeExecutionIdentifier) -> StoredData | None:
    """Return where a node's data is; None when there is no such node."""
    cursor = await connection.execute(_GET_DATA, _key(node), binary=True)
    row = await cursor.fetchone()
    return StoredData(*row) if row else None


async def find(
    connection: Connection,
    query: ListQuery,
    execution: WorkflowExecutionIdentifier,
    *,
    parent_id: int | None = None,
    parent_task_execution_id: int | None = None,
) -> Page[StoredNodeExecution]:
    """Return a page of the nodes of `execution`: children of one parent, or else the top level."""
    table = node_executions.c
    key: dict[str, Any] = {
        "execution_project": execution.project,
        "execution_domain": execution.domain,
        "execution_name": execution.name,
    }
    if parent_task_execution_id is not None:
        key["parent_task_execution_id"] = parent_task_execution_id
    elif parent_id is not None:
        key["parent_id"] = parent_id

    def restrict(statement: Select[Any]) -> Select[Any]:
        statement = statement.where(*scope_conditions(node_executions, key), *query.where)
        if parent_task_execution_id is None and parent_id is None:
            statement = statement.where(table.parent_id.is_(None), table.parent_task_execution_id.is_(None))
        if "execution" in query.entities:
            statement = statement.join(executions, same_execution(executions, node_executions))
        return statement

    page = RowPage(node_executions, _LISTED, query, restrict, cache_key=None, values=key)
    rows = await page.read(connection)
    return Page(map(StoredNodeExecution._make, rows), more=rows.more)


def _key(node: NodeExecutionIdentifier) -> dict[str, str]:
    execution = node.execution_id
    return {
        "project": execution.project,
        "domain": execution.domain,
        "name": execution.name,
        "node_id": node.node_id,
    }
