"""Executions: launched, read, listed, archived and aborted (executions.md 2 to 5)."""

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

from services.contracts.executions import EXECUTION_TERMINATED
from services.contracts.identifiers import check_execution_identifier
from services.executions.launching.launcher import Launcher
from services.executions.rules import answers, lookups, repeat
from services.executions.store import execution_lists
from services.executions.store import executions as store
from services.kit.db.database import Database
from services.kit.errors import FailedPrecondition, Internal, InvalidArgument, Unavailable
from services.kit.messaging.outbox import Outbox
from services.kit.objects.store import ObjectStore, missed
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call


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

    async def CreateExecution(self, request: ExecutionCreateRequest, call: Call) -> ExecutionCreateResponse:
        """Launch a launch plan or a single task; AlreadyExists for a name in use (executions.md 2)."""
        return await self._launcher.launch(request, call.principal)

    async def RelaunchExecution(self, request: ExecutionRelaunchRequest, call: Call) -> ExecutionCreateResponse:
        """Launch again what an execution ran, with the inputs that its caller gave (executions.md 3)."""
        identifier = _identifier(request)
        source = await self._source(identifier)
        again = await self._with_inputs(source, partial(repeat.relaunched, identifier, request, source.spec))
        return await self._launcher.launch(again, call.principal, source.id)

    async def RecoverExecution(self, request: ExecutionRecoverRequest, call: Call) -> ExecutionCreateResponse:
        """Launch again what an execution ran; its engine reuses the nodes that succeeded (executions.md 3)."""
        identifier = _identifier(request)
        source = await self._source(identifier)
        again = await self._with_inputs(source, partial(repeat.recovered, identifier, request, source.spec))
        return await self._launcher.launch(again, call.principal, source.id)

    async def GetExecution(self, request: WorkflowExecutionGetRequest, _call: Call) -> bytes:
        """Answer an execution whole; raises NotFound (executions.md 4.1)."""
        identifier = _identifier(request)
        async with self._db.read() as connection:
            row = await store.get(connection, identifier)
        if row is None:
            raise lookups.missing(identifier)
        return answers.execution(identifier.project, identifier.domain, row)

    async def ListExecutions(self, request: ResourceListRequest, _call: Call) -> bytes:
        """Answer a page of executions, archived ones only when a filter speaks of state (executions.md 5.1)."""
        if not request.HasField("id"):
            raise InvalidArgument("missing id")
        project, domain = request.id.project, request.id.domain
        if not project:
            raise InvalidArgument("missing project")
        if not domain:
            raise InvalidArgument("missing domain")
        plan = execution_lists.LISTING.plan(
            name="ListExecutions",
            limit=request.limit,
            token=request.token,
            filters=request.filters,
            sort_key=request.sort_by.key if request.HasField("sort_by") else None,
            sort_direction=request.sort_by.direction,
        )
        async with self._db.read() as connection:
            rows = await execution_lists.find(connection, plan, request.id)
        return answers.page(
            ExecutionList.EXECUTIONS_FIELD_NUMBER,
            answers.listed_executions(project, domain, rows),
            ExecutionList.TOKEN_FIELD_NUMBER,
            plan.next_token(len(rows), cut=rows.cut),
        )

    async def UpdateExecution(self, request: ExecutionUpdateRequest, call: Call) -> ExecutionUpdateResponse:
        """Archive or revive an execution, whatever its phase; raises NotFound (executions.md 4.2)."""
        identifier = _identifier(request)
        now = self._clock()
        async with self._db.transaction() as connection:
            row = await store.lock(connection, identifier)
            if row is None:
                raise lookups.missing(identifier)
            closure = ExecutionClosure.FromString(row.closure)
            change = closure.state_change_details
            change.state, change.principal = request.state, call.principal
            change.occurred_at.FromDatetime(now)
            await store.set_state(connection, row.id, request.state, closure.SerializeToString())
        return ExecutionUpdateResponse()

    async def TerminateExecution(self, request: ExecutionTerminateRequest, call: Call) -> ExecutionTerminateResponse:
        """Make an execution ABORTING and tell its engine; FailedPrecondition for one that has ended (4.3)."""
        identifier = _identifier(request)
        cause = lookups.kept_cause(request.cause)
        async with self._db.transaction() as connection:
            row = await store.lock(connection, identifier)
            if row is None:
                raise lookups.missing(identifier)
            lookups.check_running(row.phase)
            closure = ExecutionClosure.FromString(row.closure)
            lookups.aborting(closure, cause, call.principal)
            await store.set_aborting(connection, row.id, cause, closure.SerializeToString())
            await self._outbox.put(connection, EXECUTION_TERMINATED, identifier)
        return ExecutionTerminateResponse()

    async def _source(self, identifier: WorkflowExecutionIdentifier) -> store.Source:
        async with self._db.read() as connection:
            source = await store.get_source(connection, identifier)
        if source is None:
            raise lookups.missing(identifier)
        return source

    async def _with_inputs(
        self, source: store.Source, repeat_with: Callable[[bytes], ExecutionCreateRequest]
    ) -> ExecutionCreateRequest:
        uri = source.user_inputs_uri
        try:
            content = await self._objects.find(uri, bytes)
            if content is not None:
                return await self._cpu_pool.parse(content, repeat_with)
        except Unavailable as error:
            # The engine tries a child workflow again for INTERNAL; UNAVAILABLE would fail its node for good.
            raise Internal(f"the inputs cannot be read again from {uri}") from error
        except DecodeError as error:
            missed(uri, error)
        raise FailedPrecondition(f"the inputs of the execution are gone from {uri}, so it cannot run again")


def _identifier(
    request: WorkflowExecutionGetRequest
    | ExecutionRelaunchRequest
    | ExecutionRecoverRequest
    | ExecutionUpdateRequest
    | ExecutionTerminateRequest,
) -> WorkflowExecutionIdentifier:
    """Return the id of `request`, without the organisation, which has no meaning; raises InvalidArgument."""
    check_execution_identifier(request.id if request.HasField("id") else None)
    identifier = request.id
    return WorkflowExecutionIdentifier(project=identifier.project, domain=identifier.domain, name=identifier.name)
