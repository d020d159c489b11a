"""Columns of the statements in `event_statements`, as arrays: one for each column, one element for each row."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.catalog_pb2 import CatalogCacheStatus
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, WorkflowExecution

from services.executions.rules.events.state import ExecutionKey, ExecutionState, NodeKey, NodeState, TaskKey, TaskState
from services.executions.rules.events.times import microseconds, nanoseconds
from services.kit.db.binary_parameters import bigints, bools, byteas, ints, texts, timestamps
from services.kit.protobuf.wire import enum_field

# A column of nanoseconds can store 292 years. Longer durations come from wrong clocks, such as a start in the year 1;
# the closure has the exact value.
_LONGEST = 2**63 - 1

Values = dict[str, bytes]
Closure = ExecutionClosure | NodeExecutionClosure | TaskExecutionClosure


def execution_keys(keys: Iterable[ExecutionKey]) -> Values:
    """Return the natural keys of executions."""
    projects, domains, names = zip(*keys, strict=True)
    return {"projects": texts(projects), "domains": texts(domains), "names": texts(names)}


def node_keys(keys: Iterable[NodeKey]) -> Values:
    """Return the natural keys of node executions."""
    nodes = list(keys)
    return execution_keys(key.execution for key in nodes) | {"nodes": texts(key.node_id for key in nodes)}


def task_keys(keys: Iterable[TaskKey]) -> Values:
    """Return the natural keys of task executions."""
    tasks = list(keys)
    return node_keys(key.node for key in tasks) | {
        "task_projects": texts(key.project for key in tasks),
        "task_domains": texts(key.domain for key in tasks),
        "task_names": texts(key.name for key in tasks),
        "task_versions": texts(key.version for key in tasks),
        "attempts": ints(key.retry_attempt for key in tasks),
    }


def execution_columns(states: list[ExecutionState]) -> Values:
    """Return the columns of executions that events change, with their keys."""
    return (
        execution_keys(state.key for state in states)
        | _closure_columns(states, WorkflowExecution.Phase.Name)
        | _error_columns(states)
        | {"clusters": texts(state.cluster for state in states), "specs": byteas(state.spec for state in states)}
    )


def node_columns(states: dict[int, NodeState]) -> Values:
    """Return the columns of nodes that events change, with their row ids."""
    values = list(states.values())
    return (
        _closure_columns(values, NodeExecution.Phase.Name)
        | _error_columns(values)
        | {
            "ids": bigints(states),
            "inputs": texts(state.input_uri for state in values),
            "metadata": byteas(state.metadata.SerializeToString() for state in values),
            "caches": texts(_cache_status(state.closure) for state in values),
            "dynamics": texts(state.dynamic_closure_uri for state in values),
        }
    )


def new_node_columns(states: list[NodeState]) -> Values:
    """Return the other columns of new nodes."""
    return node_keys(state.key for state in states) | {
        "created": times(states, "created_at"),
        "parents": bigints(state.parent_id for state in states),
        "parent_tasks": bigints(state.parent_task_id for state in states),
        # Field 1 of flyteadmin's NodeExecutionInternalData: event_version.
        "internals": byteas(enum_field(1, max(state.event_version, 0)) for state in states),
    }


def task_columns(states: dict[int, TaskState]) -> Values:
    """Return the columns of attempts that events change, with their row ids."""
    values = list(states.values())
    return _closure_columns(values, TaskExecution.Phase.Name) | {
        "ids": bigints(states),
        "versions": ints(state.phase_version for state in values),
        "inputs": texts(state.input_uri for state in values),
        "chunked": bools(state.chunks is not None for state in values),
    }


def _closure_columns(
    states: Sequence[ExecutionState] | Sequence[NodeState] | Sequence[TaskState], name: Callable[[Any], str]
) -> Values:
    closures: list[Closure] = [state.closure for state in states]
    return {
        "phases": texts(name(closure.phase) for closure in closures),
        "closures": byteas(closure.SerializeToString() for closure in closures),
        "started": times(states, "started_at"),
        "recorded": times(states, "updated_at"),
        "durations": bigints(min(max(nanoseconds(closure.duration), -_LONGEST), _LONGEST) for closure in closures),
    }


def _error_columns(states: Sequence[ExecutionState] | Sequence[NodeState]) -> Values:
    errors = [state.closure.error if state.closure.HasField("error") else None for state in states]
    kinds = (None if error is None else _name(ExecutionError.ErrorKind, error.kind) for error in errors)
    return {
        "error_kinds": texts(kinds),
        "error_codes": texts(None if error is None else error.code for error in errors),
    }


def times(states: Iterable[ExecutionState | NodeState | TaskState], name: str) -> bytes:
    """Return the timestamps in the field `name` of closures; None where it is absent."""
    closures = (state.closure for state in states)
    return timestamps(microseconds(getattr(closure, name)) if closure.HasField(name) else None for closure in closures)


def _cache_status(closure: NodeExecutionClosure) -> str | None:
    metadata = closure.task_node_metadata
    return _name(CatalogCacheStatus, metadata.cache_status) if metadata.HasField("catalog_key") else None


def _name(enum: Any, number: int) -> str:
    """Return the name of an enum value, or its number if only a newer engine has it, as in flyteadmin."""
    value = enum.DESCRIPTOR.values_by_number.get(number)
    return str(number) if value is None else str(value.name)
