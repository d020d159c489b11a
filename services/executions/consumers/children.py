"""Terminates what an execution's nodes have launched, when it ends without its engine.

An engine that aborts an execution kills its children itself. Without it they would run on, or wait for ever.
"""

from collections.abc import Sequence

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.executions import EXECUTION_TERMINATED
from services.executions.rules.events.state import ExecutionKey
from services.executions.rules.lookups import aborting, kept_cause
from services.executions.store.endings import take_children
from services.executions.store.executions import set_aborting
from services.kit.db.pipeline import Pipeline
from services.kit.messaging.outbox import Outbox


async def terminate_children(pipeline: Pipeline, outbox: Outbox, ended: Sequence[ExecutionKey]) -> None:
    """Make the children of `ended` ABORTING and say so, in the transaction of `pipeline`.

    Theirs follow when they end in turn.
    """
    for child in await take_children(pipeline, ended):
        cause = kept_cause(f"{child.parent}, which launched this execution, has ended")
        aborting(child.closure, cause, "")
        await set_aborting(pipeline.connection, child.id, cause, child.closure.SerializeToString())
        await outbox.put(pipeline.connection, EXECUTION_TERMINATED, WorkflowExecutionIdentifier(**child.key._asdict()))
