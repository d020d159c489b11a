"""Node executions, read and listed (executions.md section 7)."""

from flyteidl.admin.node_execution_pb2 import (
    NodeExecutionForTaskListRequest,
    NodeExecutionGetRequest,
    NodeExecutionList,
    NodeExecutionListRequest,
)
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier

from services.contracts.identifiers import check_execution_identifier, check_node_execution_identifier
from services.executions.rules import answers, lookups
from services.executions.store import node_executions as store
from services.executions.store import task_executions
from services.kit.db.database import Connection, Database
from services.kit.errors import InvalidArgument
from services.kit.lists.pages import Page
from services.kit.lists.query import ListQuery
from services.kit.rpc.table import Call


class NodeExecutionHandlers:
    """The RPCs about node executions, except their data."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetNodeExecution(self, request: NodeExecutionGetRequest, _call: Call) -> bytes:
        """Answer a node execution whole; raises NotFound, which recovery takes for "run it" (executions.md 7.1)."""
        check_node_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await store.get(connection, request.id)
        if row is None:
            raise lookups.missing(request.id)
        execution = request.id.execution_id
        identifier = answers.execution_id(execution.project, execution.domain, execution.name)
        return answers.node_execution(identifier, row, listed=False)

    async def ListNodeExecutions(self, request: NodeExecutionListRequest, _call: Call) -> bytes:
        """Answer a page of an execution's top level, or of one node's children (executions.md 7.2)."""
        _check_execution(request)
        plan = _plan("ListNodeExecutions", request)
        execution = request.workflow_execution_id
        async with self._db.read() as connection:
            parent = await _parent(connection, request)
            rows = await store.find(connection, plan, execution, parent_id=parent)
        return _page(execution, rows, plan)

    async def ListNodeExecutionsForTask(self, request: NodeExecutionForTaskListRequest, _call: Call) -> bytes:
        """Answer a page of the nodes that one attempt of a task made; only old engines report any (7.3)."""
        lookups.check_task(request.task_execution_id if request.HasField("task_execution_id") else None)
        plan = _plan("ListNodeExecutionsForTask", request)
        task = request.task_execution_id
        execution = task.node_execution_id.execution_id
        async with self._db.read() as connection:
            number = await task_executions.get_id(connection, task)
            if number is None:
                raise lookups.missing(task)
            rows = await store.find(connection, plan, execution, parent_task_execution_id=number)
        return _page(execution, rows, plan)


def _plan(name: str, request: NodeExecutionListRequest | NodeExecutionForTaskListRequest) -> ListQuery:
    return store.LISTING.plan(
        name=name,
        limit=request.limit,
        token=request.token,
        filters=request.filters,
        sort_key=request.sort_by.key if request.HasField("sort_by") else None,
        sort_direction=request.sort_by.direction,
    )


def _page(execution: WorkflowExecutionIdentifier, rows: Page[answers.StoredNodeExecution], plan: ListQuery) -> bytes:
    identifier = answers.execution_id(execution.project, execution.domain, execution.name)
    return answers.page(
        NodeExecutionList.NODE_EXECUTIONS_FIELD_NUMBER,
        (answers.node_execution(identifier, row, listed=True) for row in rows),
        NodeExecutionList.TOKEN_FIELD_NUMBER,
        plan.next_token(len(rows), cut=rows.cut),
    )


def _check_execution(request: NodeExecutionListRequest) -> None:
    # Whatever is missing, this is what the reference calls it (7.2).
    try:
        check_execution_identifier(
            request.workflow_execution_id if request.HasField("workflow_execution_id") else None, "execution_id"
        )
    except InvalidArgument as error:
        raise InvalidArgument("missing execution_id") from error


async def _parent(connection: Connection, request: NodeExecutionListRequest) -> int | None:
    if not request.unique_parent_id:
        return None
    node = NodeExecutionIdentifier(node_id=request.unique_parent_id, execution_id=request.workflow_execution_id)
    parent = await store.get_id(connection, node)
    if parent is None:
        raise lookups.missing(node)
    return parent
