"""Rows that a batch of events reads and writes, each kind in one statement (architecture, sections 3 and 4).

All of it runs in one transaction that starts with locks on its lanes: batches of one lane never overlap, so rows of
nodes and tasks, which only events write, need no lock. Executions are also changed by users and are locked when an
event of the batch may change them.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.catalog_pb2 import CatalogCacheStatus
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, WorkflowExecution
from psycopg import errors as pg
from psycopg.rows import TupleRow

from services.executions.rules.events.batch import Changes, Rows, Wanted
from services.executions.rules.events.state import (
    ExecutionKey,
    ExecutionState,
    NodeKey,
    NodeState,
    ResourceChunks,
    TaskKey,
    TaskState,
)
from services.executions.rules.events.times import column, nanoseconds
from services.executions.store import event_statements as statements
from services.executions.store.external_resources import read_chunks, write_chunks
from services.kit.db import Connection
from services.kit.errors import Internal, InvalidArgument, Unavailable
from services.kit.wire import enum_field

Closure = ExecutionClosure | NodeExecutionClosure | TaskExecutionClosure


@dataclass(frozen=True)
class Lane:
    """How far a lane has been applied: the last batch's verdicts (empty at first), its place and time in the stream."""

    verdicts: bytes
    sequence: int
    stored_at: datetime | None

    def is_past(self, sequence: int, stored_at: datetime) -> bool:
        """Whether the batch with that place and time was applied before the last one.

        Both must say so: a stream that was made anew counts from one again, and clocks are set back.
        """
        return self.stored_at is not None and sequence < self.sequence and stored_at <= self.stored_at


async def read(connection: Connection, lanes: Sequence[int], need: Wanted) -> tuple[dict[int, Lane], Rows]:
    """Keep every other replica from `lanes` until the transaction ends, then read what `need` names.

    Answers how far each lane has been applied, and the rows.
    """
    cursor = await connection.execute(statements.LANES, {"lanes": list(lanes)}, binary=True)
    rows = await read_rows(connection, need)
    found = {number: Lane(*state) for number, *state in await cursor.fetchall()}
    if len(found) < len(lanes):
        await connection.execute(statements.NEW_LANES, {"lanes": list(lanes)})
        return await read(connection, lanes, need)
    return found, rows


async def mark_lanes(connection: Connection, lanes: Mapping[int, Lane]) -> None:
    """Record how far lanes have been applied, by their numbers."""
    if lanes:
        columns = {
            "lanes": list(lanes),
            "sequences": [lane.sequence for lane in lanes.values()],
            "stored": [lane.stored_at for lane in lanes.values()],
            "verdicts": [lane.verdicts for lane in lanes.values()],
        }
        await connection.execute(statements.MARK_LANES, columns)


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncIterator[None]:
    """A part of the transaction that is undone alone when it raises.

    Raises InvalidArgument when a value cannot be stored, Unavailable when the whole transaction is hit (a lost
    connection, a time-out), Internal for other faults of a statement.
    """
    try:
        async with connection.transaction():
            yield
    except (pg.DataError, pg.ProgramLimitExceeded) as error:
        raise InvalidArgument("a value of the event cannot be stored") from error
    except psycopg.OperationalError as error:
        raise Unavailable("the database is away or took too long") from error
    except psycopg.Error as error:
        raise Internal("the event could not be stored") from error


async def read_rows(connection: Connection, need: Wanted) -> Rows:
    """Read what `need` names; what does not exist is not in the answer, but has an id set aside.

    Everything is asked for before the first answer is taken: in a pipeline that is one round trip.
    """
    rows = Rows()
    executions = mentioned = nodes = tasks = None
    if need.executions:
        parameters = _execution_keys(need.executions) | {"specs": list(need.executions.values())}
        executions = await connection.execute(statements.EXECUTIONS_TO_CHANGE, parameters, binary=True)
    if need.mentioned:
        parameters = _execution_keys(need.mentioned)
        mentioned = await connection.execute(statements.EXECUTIONS_MENTIONED, parameters, binary=True)
    if need.nodes:
        parameters = _node_keys(need.nodes) | {"states": list(need.nodes.values())}
        nodes = await connection.execute(statements.NODES, parameters, binary=True)
    if need.tasks:
        parameters = _task_keys(need.tasks) | {"states": list(need.tasks.values())}
        tasks = await connection.execute(statements.TASKS, parameters, binary=True)
    if executions:
        _take_executions(await executions.fetchall(), rows)
    if mentioned:
        rows.clusters = {ExecutionKey(*row[:3]): row[3] for row in await mentioned.fetchall()}
    if nodes:
        _take_nodes(await nodes.fetchall(), rows)
    if tasks:
        _take_tasks(await tasks.fetchall(), rows)
        await read_chunks(connection, need, rows)
    return rows


async def write_rows(connection: Connection, changes: Changes) -> None:
    """Write every state that changed, parents before what refers to them."""
    if changes.executions:
        await connection.execute(statements.CHANGE_EXECUTIONS, _execution_columns(list(changes.executions.values())))
    if changes.new_nodes:
        states = list(changes.new_nodes.values())
        await connection.execute(statements.NEW_NODES, _node_columns(changes.new_nodes) | _new_node_columns(states))
    if changes.nodes:
        await connection.execute(statements.CHANGE_NODES, _node_columns(changes.nodes))
    if changes.new_tasks:
        created = _times(changes.new_tasks.values(), "created_at")
        keys = _task_keys([state.key for state in changes.new_tasks.values()])
        await connection.execute(statements.NEW_TASKS, _task_columns(changes.new_tasks) | keys | {"created": created})
    if changes.tasks:
        await connection.execute(statements.CHANGE_TASKS, _task_columns(changes.tasks))
    await write_chunks(connection, changes.new_tasks | changes.tasks)


def _take_executions(found: Iterable[TupleRow], rows: Rows) -> None:
    for project, domain, name, cluster, closure, spec in found:
        key = ExecutionKey(project, domain, name)
        rows.executions[key] = ExecutionState(key, cluster, ExecutionClosure.FromString(closure), spec)


def _take_nodes(found: Iterable[TupleRow], rows: Rows) -> None:
    for project, domain, name, node_id, stored, free, closure, metadata, inputs, dynamic in found:
        key = NodeKey(ExecutionKey(project, domain, name), node_id)
        if free is not None:
            rows.free_node_ids.append(free)
        elif stored is not None:
            rows.node_ids[key] = stored
            if closure is not None:
                rows.nodes[key] = NodeState(
                    key,
                    NodeExecutionClosure.FromString(closure),
                    NodeExecutionMetaData.FromString(metadata),
                    inputs,
                    dynamic,
                )
    rows.free_node_ids.sort()


def _take_tasks(found: Iterable[TupleRow], rows: Rows) -> None:
    for *place, stored, free, closure, version, inputs, chunked in found:
        project, domain, name, node_id, *task = place
        key = TaskKey(NodeKey(ExecutionKey(project, domain, name), node_id), *task)
        if free is not None:
            rows.free_task_ids.append(free)
        elif stored is not None:
            rows.task_ids[key] = stored
            if closure is not None:
                chunks = ResourceChunks({}) if chunked else None
                rows.tasks[key] = TaskState(key, TaskExecutionClosure.FromString(closure), version, inputs, chunks)
    rows.free_task_ids.sort()


def _execution_keys(keys: Iterable[ExecutionKey]) -> dict[str, Any]:
    projects, domains, names = map(list, zip(*keys, strict=True))
    return {"projects": projects, "domains": domains, "names": names}


def _node_keys(keys: Iterable[NodeKey]) -> dict[str, Any]:
    kept = list(keys)
    return _execution_keys(key.execution for key in kept) | {"nodes": [key.node_id for key in kept]}


def _task_keys(keys: Iterable[TaskKey]) -> dict[str, Any]:
    kept = list(keys)
    return _node_keys(key.node for key in kept) | {
        "task_projects": [key.project for key in kept],
        "task_domains": [key.domain for key in kept],
        "task_names": [key.name for key in kept],
        "task_versions": [key.version for key in kept],
        "attempts": [key.retry_attempt for key in kept],
    }


def _execution_columns(states: list[ExecutionState]) -> dict[str, Any]:
    return (
        _execution_keys(state.key for state in states)
        | _closure_columns(states, WorkflowExecution.Phase.Name)
        | _error_columns(states)
        | {"clusters": [state.cluster for state in states], "specs": [state.spec for state in states]}
    )


def _node_columns(states: dict[int, NodeState]) -> dict[str, Any]:
    values = list(states.values())
    return (
        _closure_columns(values, NodeExecution.Phase.Name)
        | _error_columns(values)
        | {
            "ids": list(states),
            "inputs": [state.input_uri for state in values],
            "metadata": [state.metadata.SerializeToString() for state in values],
            "caches": [_cache_status(state.closure) for state in values],
            "dynamics": [state.dynamic_closure_uri for state in values],
        }
    )


def _new_node_columns(states: list[NodeState]) -> dict[str, Any]:
    return _node_keys(state.key for state in states) | {
        "created": _times(states, "created_at"),
        "parents": [state.parent_id for state in states],
        "parent_tasks": [state.parent_task_id for state in states],
        # Field 1 of the reference's NodeExecutionInternalData: event_version.
        "internals": [enum_field(1, max(state.event_version, 0)) for state in states],
    }


def _task_columns(states: dict[int, TaskState]) -> dict[str, Any]:
    values = list(states.values())
    return _closure_columns(values, TaskExecution.Phase.Name) | {
        "ids": list(states),
        "versions": [state.phase_version for state in values],
        "inputs": [state.input_uri for state in values],
        "chunked": [state.chunks is not None for state in values],
    }


def _closure_columns(
    states: Sequence[ExecutionState] | Sequence[NodeState] | Sequence[TaskState], name: Callable[[Any], str]
) -> dict[str, Any]:
    closures: list[Closure] = [state.closure for state in states]
    return {
        "phases": [name(closure.phase) for closure in closures],
        "closures": [closure.SerializeToString() for closure in closures],
        "started": _times(states, "started_at"),
        "recorded": _times(states, "updated_at"),
        "durations": [nanoseconds(closure.duration) for closure in closures],
    }


def _error_columns(states: Sequence[ExecutionState] | Sequence[NodeState]) -> dict[str, Any]:
    errors = [state.closure.error if state.closure.HasField("error") else None for state in states]
    return {
        "error_kinds": [None if error is None else _name(ExecutionError.ErrorKind, error.kind) for error in errors],
        "error_codes": [None if error is None else error.code for error in errors],
    }


def _times(states: Iterable[ExecutionState | NodeState | TaskState], name: str) -> list[Any]:
    return [column(getattr(state.closure, name), present=state.closure.HasField(name)) for state in states]


def _cache_status(closure: NodeExecutionClosure) -> str | None:
    kept = closure.task_node_metadata
    return _name(CatalogCacheStatus, kept.cache_status) if kept.HasField("catalog_key") else None


def _name(enum: Any, number: int) -> str:
    """The name of a value; one that only a newer engine knows is told by its number, as the reference does."""
    value = enum.DESCRIPTOR.values_by_number.get(number)
    return str(number) if value is None else str(value.name)
