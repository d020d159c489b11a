"""Task executions, read and listed (executions.md section 8)."""

from flyteidl.admin.task_execution_pb2 import TaskExecutionGetRequest, TaskExecutionList, TaskExecutionListRequest
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier

from services.contracts.identifiers import check_node_execution_identifier
from services.executions.rules import answers, lookups
from services.executions.store import task_executions as store
from services.kit.db.database import Database
from services.kit.rpc.table import Call


class TaskExecutionHandlers:
    """The RPCs about task executions, except their data."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetTaskExecution(self, request: TaskExecutionGetRequest, _call: Call) -> bytes:
        """Answer a task execution; raises NotFound (executions.md 8.1)."""
        lookups.check_task(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await store.get(connection, request.id)
        if row is None:
            raise lookups.missing(request.id)
        return answers.task_execution(_node(request.id.node_execution_id), row)

    async def ListTaskExecutions(self, request: TaskExecutionListRequest, _call: Call) -> bytes:
        """Answer a page of a node's attempts, errors whole: the console shows the traceback (executions.md 8.2)."""
        check_node_execution_identifier(request.node_execution_id if request.HasField("node_execution_id") else None)
        plan = store.LISTING.plan(
            name="ListTaskExecutions",
            limit=request.limit,
            token=request.token,
            filters=request.filters,
            sort_key=request.sort_by.key if request.HasField("sort_by") else None,
            sort_direction=request.sort_by.direction,
        )
        async with self._db.read() as connection:
            rows = await store.find(connection, plan, request.node_execution_id)
        node = _node(request.node_execution_id)
        return answers.page(
            TaskExecutionList.TASK_EXECUTIONS_FIELD_NUMBER,
            (answers.task_execution(node, row) for row in rows),
            TaskExecutionList.TOKEN_FIELD_NUMBER,
            plan.next_token(len(rows), cut=rows.cut),
        )


def _node(identifier: NodeExecutionIdentifier) -> bytes:
    execution = identifier.execution_id
    return answers.node_execution_id(
        identifier.node_id, answers.execution_id(execution.project, execution.domain, execution.name)
    )
