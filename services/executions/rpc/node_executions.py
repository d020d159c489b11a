"""The RPCs that read and list node executions (executions.md#node-executions)."""

from flyteidl.admin.node_execution_pb2 import (
    NodeExecutionForTaskListRequest,
    NodeExecutionGetRequest,
    NodeExecutionList,
    NodeExecutionListRequest,
)
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier

from services.contracts.identifiers import check_execution_identifier, check_node_execution_identifier
from services.executions.responses import entities
from services.executions.rules.errors import missing
from services.executions.rules.identifiers import check_task_execution_id
from services.executions.store import node_executions as store
from services.executions.store import task_executions
from services.kit.db.database import Connection, Database
from services.kit.errors import InvalidArgument
from services.kit.lists.pages import Page, connection_for_page
from services.kit.lists.query import ListQuery
from services.kit.rpc.table import Call


class NodeExecutionHandlers:
    """The RPCs about node executions, except their data."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetNodeExecution(self, request: NodeExecutionGetRequest, _call: Call) -> bytes:
        """Return a whole node execution (executions.md#getnodeexecution).

        Raises:
            NotFound: There is no such node; the engine's recovery then runs it.
        """
        check_node_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await store.get(connection, request.id)
        if row is None:
            raise missing(request.id)
        execution = request.id.execution_id
        identifier = entities.execution_id(execution.project, execution.domain, execution.name)
        return entities.node_execution(identifier, row, listed=False)

    async def ListNodeExecutions(self, request: NodeExecutionListRequest, _call: Call) -> bytes:
        """Return a page of an execution's top level, or of one node's children (executions.md#listnodeexecutions)."""
        _check_execution(request)
        query = _query("ListNodeExecutions", request)
        execution = request.workflow_execution_id
        async with connection_for_page(self._db, query) as connection:
            parent = await _parent(connection, request)
            rows = await store.find(connection, query, execution, parent_id=parent)
        return _page(execution, rows, query)

    async def ListNodeExecutionsForTask(self, request: NodeExecutionForTaskListRequest, _call: Call) -> bytes:
        """Return a page of the nodes that an attempt of a task made; only old engines report any.

        See executions.md#listnodeexecutionsfortask.
        """
        check_task_execution_id(request.task_execution_id if request.HasField("task_execution_id") else None)
        query = _query("ListNodeExecutionsForTask", request)
        task = request.task_execution_id
        execution = task.node_execution_id.execution_id
        async with connection_for_page(self._db, query) as connection:
            number = await task_executions.get_id(connection, task)
            if number is None:
                raise missing(task)
            rows = await store.find(connection, query, execution, parent_task_execution_id=number)
        return _page(execution, rows, query)


def _query(name: str, request: NodeExecutionListRequest | NodeExecutionForTaskListRequest) -> ListQuery:
    return store.LISTING.query(
        name=name,
        limit=request.limit,
        token=request.token,
        filters=request.filters,
        sort_key=request.sort_by.key if request.HasField("sort_by") else None,
        sort_direction=request.sort_by.direction,
    )


def _page(execution: WorkflowExecutionIdentifier, rows: Page[store.StoredNodeExecution], query: ListQuery) -> bytes:
    identifier = entities.execution_id(execution.project, execution.domain, execution.name)
    return entities.page(
        NodeExecutionList.NODE_EXECUTIONS_FIELD_NUMBER,
        (entities.node_execution(identifier, row, listed=True) for row in rows),
        NodeExecutionList.TOKEN_FIELD_NUMBER,
        query.next_token(len(rows), more=rows.more),
    )


def _check_execution(request: NodeExecutionListRequest) -> None:
    # flyteadmin has one message for every missing field (executions.md#listnodeexecutions).
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
        raise missing(node)
    return parent
