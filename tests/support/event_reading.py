"""Stored executions in the form of the model, read by RPCs where these return all of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.admin.node_execution_pb2 import NodeExecution, NodeExecutionGetRequest
from flyteidl.admin.task_execution_pb2 import TaskExecution, TaskExecutionGetRequest
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.core.literals_pb2 import LiteralMap

from services.executions.rpc.node_executions import NodeExecutionHandlers
from services.executions.rpc.task_executions import TaskExecutionHandlers
from services.kit.db.database import Database
from services.kit.rpc.table import Call
from tests.support.event_model import Model
from tests.support.event_path import Executions
from tests.support.plain import NANOS, Plain, plain


@dataclass
class Reading:
    """A reader of stored `executions`."""

    executions: Executions
    db: Database

    async def assert_equals(self, name: str, model: Model) -> None:
        """Assert that the execution, its nodes and its attempts are those of `model`."""
        assert self.execution(name) == _stored_execution(model.executions[f"p/d/{name}"])
        assert await self.nodes(name) == {key: _shown_node(key, model) for key in model.nodes}
        assert await self.tasks(name) == {key: _shown_task(key, model) for key in model.tasks}
        for uri, values in model.objects.items():
            assert plain(LiteralMap.FromString(await self.executions.objects.get(uri))) == values

    def execution(self, name: str) -> Plain:
        """Return the row: the columns by which lists filter and sort must agree with the closure."""
        columns = "phase, cluster, closure, spec, started_at, duration"
        ((phase, cluster, closure, spec, started, duration),) = self._rows("executions", columns, name)
        return {
            "cluster": cluster,
            "spec": plain(ExecutionSpec.FromString(spec)),
            "closure": plain(ExecutionClosure.FromString(closure)),
            "columns": [phase, _nanoseconds(started), duration],
        }

    async def nodes(self, name: str) -> dict[str, Plain]:
        """Return the response of GetNodeExecution for each node, the names of its parents, and its row."""
        columns = (
            "id, node_id, parent_id, parent_task_execution_id, phase, started_at, duration, error_kind, error_code,"
            " dynamic_workflow_remote_closure_reference"
        )
        rows = self._rows("node_executions", columns, name)
        names = {row[0]: f"p/d/{name}/{row[1]}" for row in rows}
        attempts = self._attempts(name)
        handlers = NodeExecutionHandlers(self.db)
        by_name = {}
        for number, node_id, parent, parent_task, phase, started, duration, *error, dynamic in rows:
            identifier = _node(name, node_id)
            response = await handlers.GetNodeExecution(NodeExecutionGetRequest(id=identifier), Call())
            node = NodeExecution.FromString(response)
            assert node.id == identifier
            by_name[names[number]] = {
                "closure": plain(node.closure),
                "metadata": plain(node.metadata),
                "input_uri": node.input_uri,
                "parent": names.get(parent, ""),
                "parent_task": attempts.get(parent_task, ""),
                "dynamic": await self._dynamic(dynamic),
                "columns": [phase, _nanoseconds(started), duration, *error],
            }
        return by_name

    async def tasks(self, name: str) -> dict[str, Plain]:
        """Return the response of GetTaskExecution for each attempt, and its row."""
        columns = "id, node_id, project, domain, name, version, retry_attempt, phase, phase_version, duration"
        names = self._attempts(name)
        handlers = TaskExecutionHandlers(self.db)
        by_name = {}
        for number, node_id, project, domain, task, version, attempt, *row in self._rows(
            "task_executions", columns, name
        ):
            identifier = TaskExecutionIdentifier(
                task_id=Identifier(
                    resource_type=ResourceType.TASK, project=project, domain=domain, name=task, version=version
                ),
                node_execution_id=_node(name, node_id),
                retry_attempt=attempt,
            )
            response = await handlers.GetTaskExecution(TaskExecutionGetRequest(id=identifier), Call())
            task_execution = TaskExecution.FromString(response)
            assert task_execution.id == identifier
            by_name[names[number]] = {
                "closure": plain(task_execution.closure),
                "input_uri": task_execution.input_uri,
                "is_parent": task_execution.is_parent,
                "columns": row,
            }
        return by_name

    def _attempts(self, name: str) -> dict[Any, str]:
        columns = "id, node_id, project, domain, name, version, retry_attempt"
        rows = self._rows("task_executions", columns, name)
        return {number: "/".join(["p/d", name, *map(str, key)]) for number, *key in rows}

    async def _dynamic(self, uri: str) -> Plain:
        if not uri:
            return {}
        stored: Plain = plain(CompiledWorkflowClosure.FromString(await self.executions.objects.get(uri)))
        return stored

    def _rows(self, table: str, columns: str, name: str) -> list[Any]:
        return list(self.executions.rows(table, columns, name))


def _stored_execution(execution: Plain) -> Plain:
    closure = execution["closure"]
    return {
        "cluster": execution["cluster"],
        "spec": execution["spec"],
        "closure": closure,
        "columns": [_phase(closure), closure.get("started_at"), closure.get("duration", 0)],
    }


def _shown_node(key: str, model: Model) -> Plain:
    """Return a node as clients see it; with event version 0 it is a parent if it has children.

    Rule: executions.md#getnodeexecution.
    """
    node = dict(model.nodes[key])
    closure, error = node["closure"], node["closure"].get("error")
    if node.pop("event_version") == 0 and any(other["parent"] == key for other in model.nodes.values()):
        shown = {"is_parent_node": True} | ({"is_dynamic": True} if node["dynamic"] else {})
        node["metadata"] = node["metadata"] | shown
    node["columns"] = [
        _phase(closure),
        closure.get("started_at"),
        closure.get("duration", 0),
        None if error is None else str(error.get("kind", "UNKNOWN")),
        None if error is None else error.get("code", ""),
    ]
    return node


def _shown_task(key: str, model: Model) -> Plain:
    task = dict(model.tasks[key])
    closure = task["closure"]
    task["is_parent"] = any(node["parent_task"] == key for node in model.nodes.values())
    task["columns"] = [_phase(closure), task.pop("version"), closure.get("duration", 0)]
    return task


def _phase(closure: Plain) -> str:
    phase: str = closure.get("phase", "UNDEFINED")
    return phase


def _nanoseconds(when: datetime | None) -> int | None:
    return None if when is None else round(when.timestamp() * NANOS)


def _node(name: str, node_id: str) -> NodeExecutionIdentifier:
    return NodeExecutionIdentifier(
        execution_id=WorkflowExecutionIdentifier(project="p", domain="d", name=name), node_id=node_id
    )
