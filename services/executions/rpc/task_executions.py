"""The RPCs that read and list task executions (executions.md#task-executions)."""

from flyteidl.admin.task_execution_pb2 import TaskExecutionGetRequest, TaskExecutionList, TaskExecutionListRequest
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier

from services.contracts.identifiers import check_node_execution_identifier
from services.executions.responses import entities
from services.executions.rules.errors import missing
from services.executions.rules.identifiers import check_task_execution_id
from services.executions.store import task_executions as store
from services.kit.db.database import Database
from services.kit.lists.pages import connection_for_page
from services.kit.rpc.table import Call


class TaskExecutionHandlers:
    """The RPCs about task executions, except their data."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetTaskExecution(self, request: TaskExecutionGetRequest, _call: Call) -> bytes:
        """Return a task execution; raises NotFound (executions.md#gettaskexecution)."""
        check_task_execution_id(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await store.get(connection, request.id)
        if row is None:
            raise missing(request.id)
        return entities.task_execution(_node(request.id.node_execution_id), row)

    async def ListTaskExecutions(self, request: TaskExecutionListRequest, _call: Call) -> bytes:
        """Return a page of a node's attempts (executions.md#listtaskexecutions).

        Errors are whole, as the console shows the traceback.
        """
        check_node_execution_identifier(request.node_execution_id if request.HasField("node_execution_id") else None)
        query = store.LISTING.query(
            name="ListTaskExecutions",
            limit=request.limit,
            token=request.token,
            filters=request.filters,
            sort_key=request.sort_by.key if request.HasField("sort_by") else None,
            sort_direction=request.sort_by.direction,
        )
        async with connection_for_page(self._db, query) as connection:
            rows = await store.find(connection, query, request.node_execution_id)
        node = _node(request.node_execution_id)
        return entities.page(
            TaskExecutionList.TASK_EXECUTIONS_FIELD_NUMBER,
            (entities.task_execution(node, row) for row in rows),
            TaskExecutionList.TOKEN_FIELD_NUMBER,
            query.next_token(len(rows), more=rows.more),
        )


def _node(identifier: NodeExecutionIdentifier) -> bytes:
    execution = identifier.execution_id
    return entities.node_execution_id(
        identifier.node_id, entities.execution_id(execution.project, execution.domain, execution.name)
    )
