"""Reads of the task_executions table (executions.md#task-executions)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier
from psycopg.rows import TupleRow
from sqlalchemy import BigInteger, Boolean, DateTime, Select, and_, cast, literal_column, null

from services.executions.store.execution_lists import EXECUTION, same_execution
from services.executions.store.node_executions import NODE_EXECUTION
from services.executions.store.tables import executions, node_executions, task_executions
from services.kit.db.database import Connection
from services.kit.lists.pages import Page, RowPage
from services.kit.lists.query import Column, Entity, Listing, ListQuery, ValueType
from services.kit.lists.statements import scope_conditions

_KEY = """
execution_project = %(execution_project)s AND execution_domain = %(execution_domain)s
    AND execution_name = %(execution_name)s AND node_id = %(node_id)s AND retry_attempt = %(retry_attempt)s
    AND project = %(project)s AND domain = %(domain)s AND name = %(name)s AND version = %(version)s
"""
# Nodes of event version 0 have the id of the task that made them. The order is that of an index, as for children of a
# node.
_CHILDREN = """(
    SELECT child.id FROM node_executions AS child WHERE child.parent_task_execution_id = {task}.id
    ORDER BY child.id LIMIT 1
) IS NOT NULL"""
_GET = f"""
SELECT id, resources_chunked, project, domain, name, version, retry_attempt, input_uri, closure,
    {_CHILDREN.format(task="task")}
FROM task_executions AS task
WHERE {_KEY}
"""
# External resources of one attempt in a response, those with the lowest indexes first. The subtasks of the largest map
# task take that much, flytekit receives 20 MiB, and nothing else limits the resources in events.
MOST_RESOURCES_BYTES = 16 * 1024 * 1024
# In one statement, so that the closure and the chunks are of the same moment.
_WITH_RESOURCES = """
SELECT id, closure, (
    SELECT string_agg(resources, ''::bytea ORDER BY chunk) FROM (
        SELECT chunk, resources, sum(octet_length(resources)) OVER (ORDER BY chunk) AS bytes
        FROM external_resources WHERE task_execution_id = task.id
    ) AS counted WHERE bytes <= %(most_bytes)s
)
FROM task_executions AS task
WHERE id = ANY(%(ids)b)
"""
_GET_ID = f"SELECT id FROM task_executions WHERE {_KEY}"
_GET_DATA = f"SELECT input_uri, closure FROM task_executions WHERE {_KEY}"
_GET_ATTEMPT = """
SELECT input_uri, closure FROM task_executions
WHERE execution_project = %(project)s AND execution_domain = %(domain)s AND execution_name = %(name)s
    AND node_id = %(node_id)s AND retry_attempt = %(attempt)s
ORDER BY id LIMIT 1
"""

LISTING = Listing(
    prefix="task_execution",
    primary=Entity(
        "te",
        {
            "id": Column(task_executions.c.id, ValueType.INTEGER),
            "created_at": Column(task_executions.c.created_at, ValueType.TIMESTAMP),
            "updated_at": Column(task_executions.c.updated_at, ValueType.TIMESTAMP),
            "deleted_at": Column(cast(null(), DateTime(timezone=True)), ValueType.TIMESTAMP),
            # The short names mean the execution, not the task, as in flyteadmin (lists.md#columns).
            "project": Column(task_executions.c.execution_project),
            "domain": Column(task_executions.c.execution_domain),
            "name": Column(task_executions.c.execution_name),
            "version": Column(task_executions.c.version),
            "execution_project": Column(task_executions.c.execution_project),
            "execution_domain": Column(task_executions.c.execution_domain),
            "execution_name": Column(task_executions.c.execution_name),
            "node_id": Column(task_executions.c.node_id),
            "retry_attempt": Column(task_executions.c.retry_attempt, ValueType.INTEGER),
            "phase": Column(task_executions.c.phase),
            "phase_version": Column(task_executions.c.phase_version, ValueType.INTEGER),
            "input_uri": Column(task_executions.c.input_uri),
            "closure": Column(task_executions.c.closure, ValueType.BYTES),
            "started_at": Column(task_executions.c.started_at, ValueType.TIMESTAMP),
            "task_execution_created_at": Column(task_executions.c.task_execution_created_at, ValueType.TIMESTAMP),
            "task_execution_updated_at": Column(task_executions.c.task_execution_updated_at, ValueType.TIMESTAMP),
            "duration": Column(task_executions.c.duration, ValueType.DURATION),
        },
    ),
    tie_break=task_executions.c.id,
    joined={
        "task": Entity(
            "t",
            {
                "project": Column(task_executions.c.project),
                "domain": Column(task_executions.c.domain),
                "name": Column(task_executions.c.name),
                "version": Column(task_executions.c.version),
            },
        ),
        "execution": EXECUTION,
        "node_execution": NODE_EXECUTION,
    },
)

# The arguments of `_with_resources`.
_LISTED = (
    task_executions.c.id,
    task_executions.c.resources_chunked,
    task_executions.c.project,
    task_executions.c.domain,
    task_executions.c.name,
    task_executions.c.version,
    task_executions.c.retry_attempt,
    task_executions.c.input_uri,
    task_executions.c.closure,
    literal_column(_CHILDREN.format(task=task_executions.name), Boolean),
)
_RESOURCES_BYTES = literal_column(
    f"""CASE WHEN task_executions.resources_chunked THEN (
        SELECT LEAST(COALESCE(sum(octet_length(resources)), 0), {MOST_RESOURCES_BYTES}) FROM external_resources
        WHERE task_execution_id = task_executions.id
    ) ELSE 0 END""",
    BigInteger,
)


@dataclass(frozen=True)
class StoredTaskExecution:
    """The columns that task RPCs return; messages are serialized."""

    project: str
    domain: str
    name: str
    version: str
    retry_attempt: int
    input_uri: str
    closure: bytes
    is_parent: bool
    resources: bytes | None = None  # external resources that are stored outside the closure


@dataclass(frozen=True)
class StoredData:
    """The URI of an attempt's inputs, and the closure, which contains the outputs or their URI."""

    input_uri: str
    closure: bytes


async def get(connection: Connection, task: TaskExecutionIdentifier) -> StoredTaskExecution | None:
    """Return a task execution; None when there is no such task execution."""
    cursor = await connection.execute(_GET, _key(task), binary=True)
    rows = await _with_resources(connection, await cursor.fetchall())
    return rows[0] if rows else None


async def get_id(connection: Connection, task: TaskExecutionIdentifier) -> int | None:
    """Return the row id, which nodes made by the task have; None when there is no such task execution."""
    cursor = await connection.execute(_GET_ID, _key(task), binary=True)
    row = await cursor.fetchone()
    return row[0] if row else None


async def get_data(connection: Connection, task: TaskExecutionIdentifier) -> StoredData | None:
    """Return where an attempt's data is; None when there is no such task execution."""
    cursor = await connection.execute(_GET_DATA, _key(task), binary=True)
    row = await cursor.fetchone()
    return StoredData(*row) if row else None


async def get_attempt(connection: Connection, node: NodeExecutionIdentifier, attempt: int) -> StoredData | None:
    """Return where the data of the attempt `attempt` at `node` is, of the oldest task there; None without one."""
    execution = node.execution_id
    key = {"project": execution.project, "domain": execution.domain, "name": execution.name, "node_id": node.node_id}
    cursor = await connection.execute(_GET_ATTEMPT, key | {"attempt": attempt}, binary=True)
    row = await cursor.fetchone()
    return StoredData(*row) if row else None


async def find(connection: Connection, query: ListQuery, node: NodeExecutionIdentifier) -> Page[StoredTaskExecution]:
    """Return a page of the attempts of all tasks of `node`."""
    key = {
        "execution_project": node.execution_id.project,
        "execution_domain": node.execution_id.domain,
        "execution_name": node.execution_id.name,
        "node_id": node.node_id,
    }

    def restrict(statement: Select[Any]) -> Select[Any]:
        statement = statement.where(*scope_conditions(task_executions, key), *query.where)
        if "execution" in query.entities:
            statement = statement.join(executions, same_execution(executions, task_executions))
        if "node_execution" in query.entities:
            same_node = node_executions.c.node_id == task_executions.c.node_id
            of_node = and_(same_execution(node_executions, task_executions), same_node)
            statement = statement.join(node_executions, of_node)
        return statement

    page = RowPage(task_executions, _LISTED, query, restrict, cache_key=None, values=key, extra_bytes=_RESOURCES_BYTES)
    rows = await page.read(connection)
    return Page(await _with_resources(connection, rows), more=rows.more)


async def _with_resources(connection: Connection, rows: Iterable[TupleRow]) -> list[StoredTaskExecution]:
    """Return task executions with their external resources; only rows with chunks cost another statement.

    Args:
        connection: A connection to the database.
        rows: The id, whether there are chunks, then the fields of StoredTaskExecution.
    """
    tasks: dict[int, StoredTaskExecution] = {}
    chunked: list[int] = []
    for identifier, has_chunks, *fields in rows:
        tasks[identifier] = StoredTaskExecution(*fields)
        if has_chunks:
            chunked.append(identifier)
    if chunked:
        cursor = await connection.execute(
            _WITH_RESOURCES, {"ids": chunked, "most_bytes": MOST_RESOURCES_BYTES}, binary=True
        )
        for identifier, closure, resources in await cursor.fetchall():
            tasks[identifier] = replace(tasks[identifier], closure=closure, resources=resources)
    return list(tasks.values())


def _key(task: TaskExecutionIdentifier) -> dict[str, str | int]:
    node = task.node_execution_id
    return {
        "execution_project": node.execution_id.project,
        "execution_domain": node.execution_id.domain,
        "execution_name": node.execution_id.name,
        "node_id": node.node_id,
        "retry_attempt": task.retry_attempt,
        "project": task.task_id.project,
        "domain": task.task_id.domain,
        "name": task.task_id.name,
        "version": task.task_id.version,
    }
