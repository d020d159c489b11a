"""Termination of the child executions of an execution that ends without its engine.

An engine that aborts an execution aborts its children itself. Otherwise they would run on, or wait until terminated.
"""

from collections.abc import Sequence

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.executions import EXECUTION_TERMINATED
from services.executions.rules.aborts import set_aborting, stored_cause
from services.executions.rules.events.state import ExecutionKey
from services.executions.store import executions
from services.executions.store.endings import lock_children
from services.kit.db.pipeline import Pipeline
from services.kit.messaging.outbox import Outbox


async def terminate_children(pipeline: Pipeline, outbox: Outbox, ended: Sequence[ExecutionKey]) -> None:
    """Make the children of `ended` ABORTING and announce it, in the transaction of `pipeline`.

    Their own children are terminated when they end.
    """
    for child in await lock_children(pipeline, ended):
        cause = stored_cause(f"{child.parent}, which launched this execution, has ended")
        set_aborting(child.closure, cause, "")
        await executions.set_aborting(pipeline.connection, child.id, cause, child.closure.SerializeToString())
        await outbox.put(pipeline.connection, EXECUTION_TERMINATED, WorkflowExecutionIdentifier(**child.key._asdict()))
