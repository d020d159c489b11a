"""The rows that a batch of events reads and writes, each kind in one statement.

Everything runs in one transaction that first locks its lane or moves the lane's cursor: batches of one lane never
overlap, so rows of nodes and tasks, which only events write, need no lock. Users change executions too; they are locked
when an event of the batch may change them.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from psycopg import errors as pg

from services.executions.rules.events.batch import Changes, Rows, RowsNeeded
from services.executions.rules.events.lane_cursor import LaneCursor
from services.executions.rules.events.state import (
    ExecutionKey,
    ExecutionState,
    NodeKey,
    NodeState,
    ResourceChunks,
    TaskKey,
    TaskState,
)
from services.executions.store import event_columns as columns
from services.executions.store import event_statements as statements
from services.executions.store.external_resources import query_chunks, write_chunks
from services.executions.store.phase_counts import parse_counts, query_counts, write_counts
from services.kit.db.binary_parameters import bigint, bools, read_bool, read_int, read_text, read_timestamp, timestamp
from services.kit.db.pipeline import Pipeline, Result
from services.kit.errors import Internal, InvalidArgument, Unavailable

Row = tuple[bytes | None, ...]


async def lock_lane_and_read(
    pipeline: Pipeline, lane: int, needed: RowsNeeded, cached: Rows
) -> tuple[LaneCursor, Rows]:
    """Lock `lane` until the transaction ends, then read rows.

    Args:
        pipeline: Of the transaction.
        lane: The lane.
        needed: The rows to read.
        cached: Rows whose tasks get the chunks that they lack.

    Returns:
        The lane's cursor and the rows, as from `read_rows`.
    """
    number = {"lane": bigint(lane)}
    locked = pipeline.put(statements.LANE, number)
    rows = await read_rows(pipeline, needed, cached)
    if not locked.rows:
        pipeline.put(statements.NEW_LANE, number)
        return await lock_lane_and_read(pipeline, lane, needed, cached)
    return _cursor(locked.rows[0]), rows


def move_cursor(pipeline: Pipeline, lane: int, cursor: LaneCursor, before: LaneCursor) -> None:
    """Move the cursor of a lane when the pipeline runs; the transaction fails unless it is at `before`.

    Like a lock it excludes other replicas from the lane until the transaction ends, so it may be the first statement.
    """
    values = {
        "lane": bigint(lane),
        "sequence": bigint(cursor.sequence),
        "stored": _stored_at(cursor),
        "verdicts": cursor.verdict_frame,
        "senders": json.dumps(cursor.senders).encode(),
        "before": bigint(before.sequence),
        "stored_before": _stored_at(before),
    }
    pipeline.put(statements.MOVE_CURSOR, values)


def _stored_at(cursor: LaneCursor) -> bytes | None:
    return None if cursor.stored_at is None else timestamp(cursor.stored_at)


@asynccontextmanager
async def savepoint(pipeline: Pipeline) -> AsyncIterator[None]:
    """Open a savepoint; when its block raises, only what was written since is rolled back.

    Raises:
        InvalidArgument: A value cannot be stored.
        Unavailable: The whole transaction has failed (a lost connection, a timeout).
        Internal: A statement has failed for another reason.
    """
    pipeline.put(statements.SAVEPOINT)
    await pipeline.run()
    try:
        try:
            yield
            await pipeline.run()
            pipeline.put(statements.RELEASE_SAVEPOINT)
        except BaseException:
            await pipeline.undo(statements.BACK_TO_SAVEPOINT)
            raise
    except (pg.DataError, pg.ProgramLimitExceeded) as error:
        raise InvalidArgument("a value of the event cannot be stored") from error
    except psycopg.OperationalError as error:
        raise Unavailable("the database is away or took too long") from error
    except psycopg.Error as error:
        raise Internal("the event could not be stored") from error


async def read_rows(pipeline: Pipeline, needed: RowsNeeded, cached: Rows) -> Rows:
    """Read the `needed` rows, and for tasks in `cached` the chunks that they lack.

    Statements that were put before run in the same round trip. Only chunks of tasks that are read here take a second
    one.

    Returns:
        The rows that exist, with a reserved id for each that does not.
    """
    rows = Rows()
    executions = referenced = nodes = tasks = Result()
    if needed.executions:
        parameters = columns.execution_keys(needed.executions) | {"specs": bools(needed.executions.values())}
        executions = pipeline.put(statements.EXECUTIONS_TO_CHANGE, parameters)
    if needed.referenced:
        referenced = pipeline.put(statements.EXECUTIONS_REFERENCED, columns.execution_keys(needed.referenced))
    if needed.nodes:
        nodes = pipeline.put(
            statements.NODES, columns.node_keys(needed.nodes) | {"states": bools(needed.nodes.values())}
        )
    if needed.tasks:
        tasks = pipeline.put(
            statements.TASKS, columns.task_keys(needed.tasks) | {"states": bools(needed.tasks.values())}
        )
    counts = query_counts(pipeline, needed.counted) if needed.counted else Result()
    cached_chunks = query_chunks(pipeline, needed, cached)
    await pipeline.run()
    if cached_chunks:
        cached_chunks.add_to(cached)
    _add_executions(executions, rows)
    rows.clusters = {_execution_key(row): read_text(row[3]) for row in referenced.rows}
    rows.counts = parse_counts(counts)
    _add_nodes(nodes, rows)
    _add_tasks(tasks, rows)
    if chunks := query_chunks(pipeline, needed, rows):
        await pipeline.run()
        chunks.add_to(rows)
    return rows


def write_rows(pipeline: Pipeline, changes: Changes) -> None:
    """Write all changed rows when the pipeline runs, parents before the rows that refer to them."""
    if changes.executions:
        pipeline.put(statements.CHANGE_EXECUTIONS, columns.execution_columns(list(changes.executions.values())))
    if changes.new_nodes:
        states = list(changes.new_nodes.values())
        pipeline.put(statements.NEW_NODES, columns.node_columns(changes.new_nodes) | columns.new_node_columns(states))
    if changes.nodes:
        pipeline.put(statements.CHANGE_NODES, columns.node_columns(changes.nodes))
    if changes.new_tasks:
        created = {"created": columns.times(changes.new_tasks.values(), "created_at")}
        keys = columns.task_keys([state.key for state in changes.new_tasks.values()])
        pipeline.put(statements.NEW_TASKS, columns.task_columns(changes.new_tasks) | keys | created)
    if changes.tasks:
        pipeline.put(statements.CHANGE_TASKS, columns.task_columns(changes.tasks))
    write_chunks(pipeline, changes.new_tasks | changes.tasks)
    write_counts(pipeline, changes.counts)


def _cursor(row: Row) -> LaneCursor:
    senders = json.loads(row[3]) if row[3] else {}
    return LaneCursor(row[0] or b"", read_int(row[1]), read_timestamp(row[2]), senders)


def _execution_key(row: Row) -> ExecutionKey:
    return ExecutionKey(read_text(row[0]), read_text(row[1]), read_text(row[2]))


def _node_key(row: Row) -> NodeKey:
    return NodeKey(_execution_key(row), read_text(row[3]))


def _task_key(row: Row) -> TaskKey:
    project, domain, name, version = map(read_text, row[4:8])
    return TaskKey(_node_key(row), project, domain, name, version, read_int(row[8]))


def _add_executions(result: Result, rows: Rows) -> None:
    for row in result.rows:
        key = _execution_key(row)
        cluster, closure, spec = row[3:]
        rows.executions[key] = ExecutionState(
            key, read_text(cluster), ExecutionClosure.FromString(closure or b""), spec or b""
        )


def _add_nodes(result: Result, rows: Rows) -> None:
    for row in result.rows:
        stored, free, closure, metadata, inputs, dynamic = row[4:]  # the columns of `statements.NODES`
        if free is not None:
            rows.free_node_ids.append(read_int(free))
        elif stored is not None:
            key = _node_key(row)
            rows.node_ids[key] = read_int(stored)
            if closure is not None:
                rows.nodes[key] = NodeState(
                    key,
                    NodeExecutionClosure.FromString(closure),
                    NodeExecutionMetaData.FromString(metadata or b""),
                    read_text(inputs),
                    read_text(dynamic),
                )
    rows.free_node_ids.sort()


def _add_tasks(result: Result, rows: Rows) -> None:
    for row in result.rows:
        stored, free, closure, version, inputs, chunked = row[9:]  # the columns of `statements.TASKS`
        if free is not None:
            rows.free_task_ids.append(read_int(free))
        elif stored is not None:
            key = _task_key(row)
            rows.task_ids[key] = read_int(stored)
            if closure is not None:
                chunks = ResourceChunks({}) if read_bool(chunked) else None
                state = TaskExecutionClosure.FromString(closure)
                rows.tasks[key] = TaskState(key, state, read_int(version), read_text(inputs), chunks)
    rows.free_task_ids.sort()
