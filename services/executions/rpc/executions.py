"""The RPCs that launch, read, list, archive and abort executions (executions.md#executions)."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from flyteidl.admin.common_pb2 import ResourceListRequest
from flyteidl.admin.execution_pb2 import (
    ExecutionClosure,
    ExecutionCreateRequest,
    ExecutionCreateResponse,
    ExecutionList,
    ExecutionRecoverRequest,
    ExecutionRelaunchRequest,
    ExecutionTerminateRequest,
    ExecutionTerminateResponse,
    ExecutionUpdateRequest,
    ExecutionUpdateResponse,
    WorkflowExecutionGetRequest,
)
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from google.protobuf.message import DecodeError

from services.contracts.authorization.roles import Role
from services.contracts.executions import EXECUTION_TERMINATED
from services.contracts.identifiers import check_execution_identifier
from services.executions.launching.launcher import Launcher
from services.executions.responses import entities
from services.executions.rules import aborts, repeat
from services.executions.rules.errors import missing
from services.executions.rules.new_executions import LaunchedBy
from services.executions.store import execution_lists
from services.executions.store import executions as store
from services.kit.db.database import Database
from services.kit.errors import FailedPrecondition, Internal, InvalidArgument, Unavailable
from services.kit.lists.pages import connection_for_page
from services.kit.messaging.outbox import Outbox
from services.kit.objects.store import ObjectStore, report_lost_object
from services.kit.rpc.cpu_pool import MOST_LOOP_BYTES, CpuPool
from services.kit.rpc.fairness import FairSemaphore, current_client_connection
from services.kit.rpc.table import Call

# Repeats of executions with large inputs, which take up to twenty times their bytes in memory; one of a connection.
_LARGE_REPEATS = 2


class ExecutionHandlers:
    """The RPCs about executions."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        objects: ObjectStore,
        launcher: Launcher,
        *,
        cpu_pool: CpuPool,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._outbox = outbox
        self._objects = objects
        self._launcher = launcher
        self._cpu_pool = cpu_pool
        self._clock = clock
        self._large_repeats = FairSemaphore(_LARGE_REPEATS, 1)

    async def CreateExecution(self, request: ExecutionCreateRequest, call: Call) -> ExecutionCreateResponse:
        """Launch a launch plan or a single task; raises AlreadyExists and others (executions.md#createexecution)."""
        return await self._launcher.launch(request, _launched_by(call))

    async def RelaunchExecution(self, request: ExecutionRelaunchRequest, call: Call) -> ExecutionCreateResponse:
        """Repeat an execution with the inputs that its caller gave.

        See executions.md#relaunchexecution-and-recoverexecution.
        """
        identifier = _identifier(request)
        source = await self._source(identifier)
        return await self._repeat(source, partial(repeat.relaunched, identifier, request, source.spec), call)

    async def RecoverExecution(self, request: ExecutionRecoverRequest, call: Call) -> ExecutionCreateResponse:
        """Repeat an execution; the engine reuses the nodes that succeeded.

        See executions.md#relaunchexecution-and-recoverexecution.
        """
        identifier = _identifier(request)
        source = await self._source(identifier)
        return await self._repeat(source, partial(repeat.recovered, identifier, request, source.spec), call)

    async def GetExecution(self, request: WorkflowExecutionGetRequest, _call: Call) -> bytes:
        """Return a whole execution; raises NotFound (executions.md#getexecution)."""
        identifier = _identifier(request)
        async with self._db.read() as connection:
            row = await store.get(connection, identifier)
        if row is None:
            raise missing(identifier)
        return entities.execution(identifier.project, identifier.domain, row)

    async def ListExecutions(self, request: ResourceListRequest, _call: Call) -> bytes:
        """Return a page of executions, archived ones only if a filter names `state` (executions.md#listexecutions)."""
        if not request.HasField("id"):
            raise InvalidArgument("missing id")
        project, domain = request.id.project, request.id.domain
        if not project:
            raise InvalidArgument("missing project")
        if not domain:
            raise InvalidArgument("missing domain")
        query = execution_lists.LISTING.query(
            name="ListExecutions",
            limit=request.limit,
            token=request.token,
            filters=request.filters,
            sort_key=request.sort_by.key if request.HasField("sort_by") else None,
            sort_direction=request.sort_by.direction,
        )
        async with connection_for_page(self._db, query) as connection:
            rows = await execution_lists.find(connection, query, request.id)
        return entities.page(
            ExecutionList.EXECUTIONS_FIELD_NUMBER,
            entities.listed_executions(project, domain, rows),
            ExecutionList.TOKEN_FIELD_NUMBER,
            query.next_token(len(rows), more=rows.more),
        )

    async def UpdateExecution(self, request: ExecutionUpdateRequest, call: Call) -> ExecutionUpdateResponse:
        """Archive or reactivate an execution in any phase; raises NotFound (executions.md#updateexecution)."""
        identifier = _identifier(request)
        now = self._clock()
        async with self._db.transaction() as connection:
            row = await store.lock(connection, identifier)
            if row is None:
                raise missing(identifier)
            closure = ExecutionClosure.FromString(row.closure)
            change = closure.state_change_details
            change.state, change.principal = request.state, call.principal
            change.occurred_at.FromDatetime(now)
            await store.set_state(connection, row.id, request.state, closure.SerializeToString())
        return ExecutionUpdateResponse()

    async def TerminateExecution(self, request: ExecutionTerminateRequest, call: Call) -> ExecutionTerminateResponse:
        """Make an execution ABORTING and announce it for the engine (executions.md#terminateexecution).

        Raises:
            NotFound: There is no such execution.
            FailedPrecondition: It has ended.
            PermissionDenied: The caller is an engine, and no engine has launched it.
        """
        identifier = _identifier(request)
        cause = aborts.stored_cause(request.cause)
        async with self._db.transaction() as connection:
            row = await store.lock(connection, identifier)
            if row is None:
                raise missing(identifier)
            if call.role == Role.ENGINE:
                aborts.check_child(identifier, row.parent_node_id)
            aborts.check_running(row.phase)
            closure = ExecutionClosure.FromString(row.closure)
            aborts.set_aborting(closure, cause, call.principal)
            await store.set_aborting(connection, row.id, cause, closure.SerializeToString())
            await self._outbox.put(connection, EXECUTION_TERMINATED, identifier)
        return ExecutionTerminateResponse()

    async def _source(self, identifier: WorkflowExecutionIdentifier) -> store.Source:
        async with self._db.read() as connection:
            source = await store.get_source(connection, identifier)
        if source is None:
            raise missing(identifier)
        return source

    async def _repeat(
        self, source: store.Source, repeat_with: Callable[[bytes], ExecutionCreateRequest], call: Call
    ) -> ExecutionCreateResponse:
        content = await self._inputs(source)
        if len(content) <= MOST_LOOP_BYTES:
            return await self._launcher.launch(_parsed(source, content, repeat_with), _launched_by(call), source.id)
        del content  # it is read again when it is this call's turn
        async with self._large_repeats.slot(current_client_connection()):
            content = await self._inputs(source)
            again = await self._cpu_pool.run(_parsed, source, content, repeat_with)
            return await self._launcher.launch(again, _launched_by(call), source.id)

    async def _inputs(self, source: store.Source) -> bytes:
        """Return the serialized inputs of an execution; raise FailedPrecondition if they are gone."""
        uri = source.user_inputs_uri
        try:
            content = await self._objects.find(uri, bytes)
        except Unavailable as error:
            # The engine retries a child workflow after INTERNAL; UNAVAILABLE would fail its node permanently.
            raise Internal(f"the inputs cannot be read again from {uri}") from error
        if content is None:
            raise _gone(source)
        return content


def _launched_by(call: Call) -> LaunchedBy:
    return LaunchedBy(call.principal, engine=call.role == Role.ENGINE)


def _parsed(
    source: store.Source, content: bytes, repeat_with: Callable[[bytes], ExecutionCreateRequest]
) -> ExecutionCreateRequest:
    try:
        return repeat_with(content)
    except DecodeError as error:
        report_lost_object(source.user_inputs_uri, error)
        raise _gone(source) from error


def _gone(source: store.Source) -> FailedPrecondition:
    return FailedPrecondition(
        f"the inputs of the execution are gone from {source.user_inputs_uri}, so it cannot run again"
    )


def _identifier(
    request: WorkflowExecutionGetRequest
    | ExecutionRelaunchRequest
    | ExecutionRecoverRequest
    | ExecutionUpdateRequest
    | ExecutionTerminateRequest,
) -> WorkflowExecutionIdentifier:
    """Return the id of `request` without the organisation, which has no meaning; raises InvalidArgument."""
    check_execution_identifier(request.id if request.HasField("id") else None)
    identifier = request.id
    return WorkflowExecutionIdentifier(project=identifier.project, domain=identifier.domain, name=identifier.name)
