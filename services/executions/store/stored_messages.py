"""The columns of stored messages that responses contain, for the command `repair`."""

from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import ListMatchableAttributesResponse
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.event.event_pb2 import TaskExecutionMetadata

from services.executions.store.tables import EXECUTION_KEY
from services.kit.db.database import Connection
from services.kit.db.repair import Column, Stored

STORED = (
    Stored(
        "executions",
        ("id",),
        EXECUTION_KEY,
        (
            Column("spec", ExecutionSpec, 2),
            Column("spec_inputs", LiteralMap, 2),
            Column("closure", ExecutionClosure, 2),
            Column("execution_attributes", ListMatchableAttributesResponse, 1),
        ),
    ),
    Stored(
        "node_executions",
        ("id",),
        (*EXECUTION_KEY, "node_id"),
        (Column("closure", NodeExecutionClosure, 2), Column("node_execution_metadata", NodeExecutionMetaData, 2)),
    ),
    Stored(
        "task_executions",
        ("id",),
        (*EXECUTION_KEY, "node_id", "retry_attempt"),
        (Column("closure", TaskExecutionClosure, 2),),
    ),
    Stored(
        "external_resources",
        ("task_execution_id", "chunk"),
        ("task_execution_id", "chunk"),
        (Column("resources", TaskExecutionMetadata, 3),),
    ),
    Stored(
        "signals",
        ("id",),
        (*EXECUTION_KEY, "signal_id"),
        (Column("type", LiteralType, 2), Column("value", Literal, 2)),
    ),
)

_MOVE_LANES = "UPDATE event_lanes SET stored_at = stored_at + interval '1 microsecond'"


async def hold_lanes(connection: Connection) -> None:
    """Hold up all lanes until the transaction ends, and make their appliers drop their row caches.

    An applier takes a lane with another stored time for one that another replica has moved (`event_rows.move_cursor`).
    """
    await connection.execute(_MOVE_LANES)
