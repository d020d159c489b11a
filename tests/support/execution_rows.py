"""Rows of executions, nodes and attempts that tests insert."""

from pathlib import Path
from typing import Any

import psycopg
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest
from flyteidl.admin.execution_pb2 import (
    ExecutionClosure,
    ExecutionSpec,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.node_execution_pb2 import (
    NodeExecutionClosure,
    NodeExecutionMetaData,
)
from flyteidl.admin.task_execution_pb2 import (
    TaskExecutionClosure,
)
from flyteidl.core.execution_pb2 import NodeExecution
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.entities import DOMAIN, PROJECT

LONG = "é" * 200
PROJECT_DOMAIN = {"execution_project": PROJECT, "execution_domain": DOMAIN}


async def insert(database: psycopg.AsyncConnection[Any], table: str, **row: Any) -> int:
    """Insert a row and return its id; messages are serialized here."""
    values = {key: value.SerializeToString() if hasattr(value, "DESCRIPTOR") else value for key, value in row.items()}
    columns = ", ".join(f'"{column}"' for column in values)
    parameters = ", ".join(f"%({column})s" for column in values)
    cursor = await database.execute(f"INSERT INTO {table} ({columns}) VALUES ({parameters}) RETURNING id", values)
    (number,) = await cursor.fetchone() or (0,)
    return int(number)


async def execution(database: psycopg.AsyncConnection[Any], name: str, **row: Any) -> int:
    phase = row.pop("phase", "RUNNING")
    closure = ExecutionClosure(phase=phase)
    defaults = {"phase": phase, "spec": ExecutionSpec(), "closure": closure, "workflow_name": "wf"}
    return await insert(database, "executions", **PROJECT_DOMAIN, execution_name=name, **{**defaults, **row})


async def node(database: psycopg.AsyncConnection[Any], execution_name: str, name: str, **row: Any) -> int:
    defaults = {
        "phase": "SUCCEEDED",
        "closure": NodeExecutionClosure(phase=NodeExecution.SUCCEEDED),
        "node_execution_metadata": NodeExecutionMetaData(spec_node_id=name),
        "internal_data": b"\x08\x01",
    }
    return await insert(
        database,
        "node_executions",
        **PROJECT_DOMAIN,
        execution_name=execution_name,
        node_id=name,
        **{**defaults, **row},
    )


async def task(database: psycopg.AsyncConnection[Any], execution_name: str, node_name: str, **row: Any) -> int:
    named = {"project": PROJECT, "domain": DOMAIN, "name": "t", "version": "v1"}
    defaults = {"phase": "RUNNING", "closure": TaskExecutionClosure()}
    return await insert(
        database,
        "task_executions",
        **PROJECT_DOMAIN,
        execution_name=execution_name,
        node_id=node_name,
        **{**named, **defaults, **row},
    )


def stored(objects: Path, name: str, content: bytes) -> str:
    (objects / name).parent.mkdir(parents=True, exist_ok=True)
    (objects / name).write_bytes(content)
    return f"file://{objects}/{name}"


async def listed(admin: AdminServiceStub, filters: str = "", **fields: Any) -> list[str]:
    scope = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    request = ResourceListRequest(**{"id": scope, "limit": 100, "filters": filters, **fields})
    return [item.id.name for item in (await admin.ListExecutions(request)).executions]


GET = WorkflowExecutionGetRequest
