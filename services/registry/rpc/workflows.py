"""Workflows (registry.md#createworkflow, registry.md#getworkflow)."""

from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from flyteidl.admin.common_pb2 import (
    NamedEntityIdentifierListRequest,
    NamedEntityState,
    ObjectGetRequest,
    ResourceListRequest,
)
from flyteidl.admin.workflow_pb2 import (
    Workflow,
    WorkflowClosure,
    WorkflowCreateRequest,
    WorkflowCreateResponse,
    WorkflowList,
    WorkflowSpec,
)
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.identifiers import check_identifier
from services.contracts.projects import check_active_with_domain
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, NotFound, ServiceError
from services.kit.lists.pages import connection_for_page
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox
from services.kit.protobuf.size_limit import check_entity_size
from services.kit.protobuf.wire import message_field, string_field
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call
from services.registry.compiler import Requirements
from services.registry.lists.pages import list_query, names_page
from services.registry.registration.closures import ClosureStore, closure_bytes
from services.registry.registration.projects import request_project
from services.registry.rules import duplicates
from services.registry.rules.digests import workflow_digest
from services.registry.rules.errors import not_found
from services.registry.rules.lists import check_id_given, check_project_domain_given
from services.registry.rules.workflows import (
    WorkflowLimits,
    check_library_size,
    check_nodes,
    check_size,
    check_spec,
    compile_spec,
    listed_workflow,
    requirements_of,
    uncompilable,
)
from services.registry.store import launch_plans, listings, names, tasks
from services.registry.store import workflows as store


class _Compiled(NamedTuple):
    """A compiled workflow, its closure as the object store has it, and its digest."""

    workflow: CompiledWorkflowClosure
    closure: bytes
    digest: bytes


class WorkflowHandlers:
    """The RPCs about workflows."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        outbox: Outbox,
        cpu_pool: CpuPool,
        closures: ClosureStore,
        *,
        limits: WorkflowLimits,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._bus = bus
        self._outbox = outbox
        self._cpu_pool = cpu_pool
        self._closures = closures
        self._limits = limits
        self._clock = clock

    async def CreateWorkflow(self, request: WorkflowCreateRequest, _call: Call) -> WorkflowCreateResponse:
        """Register a version (registry.md#createworkflow-steps).

        Raises:
            AlreadyExists: The same version is registered with the same structure.
            InvalidArgument: It is registered with another structure, or the request is invalid.
        """
        check_identifier(request.id if request.HasField("id") else None, ResourceType.WORKFLOW)
        project = await request_project(self._bus, request.id)
        check_active_with_domain(project, request.id.domain)
        check_spec(request.spec)
        await self.register(request, NamedEntityState.NAMED_ENTITY_ACTIVE)
        return WorkflowCreateResponse()

    async def register(self, request: WorkflowCreateRequest, name_state: int) -> None:
        """Compile and store a checked request; `name_state` is for a new name. Raise as CreateWorkflow."""
        identifier = request.id
        request.spec.template.id.CopyFrom(identifier)
        request_digest = sha256(request.SerializeToString(deterministic=True)).digest()
        async with self._db.read() as connection:
            stored = await store.get(connection, identifier)
        # Clients repeat registrations; a repeated one need not be compiled again.
        if stored is not None and stored.request_digest == request_digest:
            raise duplicates.identical_workflow(identifier)
        check_nodes(identifier, request.spec, self._limits)
        compiled = await self._compile(request)
        check_size(len(compiled.closure), self._limits)
        if stored is None:
            listed = listed_workflow(identifier, request.spec)
            check_entity_size("workflow interface", listed.ByteSize())
            uri = await self._closures.put(identifier, compiled.digest, compiled.closure)
            new = store.New(listed, compiled.digest, request_digest, uri, len(compiled.closure), name_state)
            stored = await self._insert(request, new)
        if stored is not None:
            raise await self._duplicate(compiled, stored)

    async def _insert(self, request: WorkflowCreateRequest, new: store.New) -> store.Stored | None:
        """Insert a workflow; return the existing one if a concurrent call was first."""
        now = self._clock()
        new.listed.closure.created_at.FromDatetime(now)
        description = request.spec.description if request.spec.HasField("description") else None
        async with self._db.autocommit() as connection:
            if not await store.insert(connection, new, now, description):
                return await store.get(connection, request.id)
        self._outbox.filled.set()
        return None

    async def _duplicate(self, compiled: _Compiled, stored: store.Stored) -> ServiceError:
        """Return the error of registering a version that is `stored` (registry.md#registering-a-workflow-twice)."""
        identifier = compiled.workflow.primary.template.id
        if stored.digest == compiled.digest:
            return duplicates.identical_workflow(identifier)
        existing = WorkflowClosure.FromString(await self._closures.get(stored.uri)).compiled_workflow
        return await self._cpu_pool.run(duplicates.different_workflow, identifier, existing, compiled.workflow)

    async def _compile(self, request: WorkflowCreateRequest) -> _Compiled:
        """Read what the workflow refers to and compile it; raise InvalidArgument, also when a dependency is missing."""
        spec = request.spec
        try:
            needed = await self._cpu_pool.run(requirements_of, spec)
            async with self._db.read() as connection:
                check_library_size(
                    await tasks.total_bytes(connection, needed.tasks)
                    + await launch_plans.total_bytes(connection, needed.launch_plans)
                )
                task_messages = await tasks.get_all(connection, needed.tasks)
                plan_messages = await launch_plans.get_all(connection, needed.launch_plans)
            library = (
                _all(ResourceType.TASK, needed.tasks, task_messages),
                _all(ResourceType.LAUNCH_PLAN, needed.launch_plans, plan_messages),
            )
            return await self._cpu_pool.run(_compile_and_digest, spec, needed, *library)
        except (InvalidArgument, NotFound) as error:
            raise uncompilable(request.id, error) from error

    async def GetWorkflow(self, request: ObjectGetRequest, _call: Call) -> bytes:
        """Return a version with its whole compiled closure; raise InvalidArgument, NotFound."""
        if request.HasField("id") and request.id.resource_type == ResourceType.UNSPECIFIED:
            request.id.resource_type = ResourceType.WORKFLOW
        check_identifier(request.id if request.HasField("id") else None, ResourceType.WORKFLOW)
        async with self._db.read() as connection:
            stored = await store.get(connection, request.id)
        if stored is None:
            raise not_found(ResourceType.WORKFLOW, request.id)
        workflow = Workflow.FromString(stored.message)
        created_at = message_field(
            WorkflowClosure.CREATED_AT_FIELD_NUMBER, workflow.closure.created_at.SerializeToString()
        )
        workflow.ClearField("closure")
        closure = await self._closures.get(stored.uri) + created_at
        return workflow.SerializeToString() + message_field(Workflow.CLOSURE_FIELD_NUMBER, closure)

    async def ListWorkflows(self, request: ResourceListRequest, _call: Call) -> bytes:
        """Return a page of versions, of one name or of all, with their interface only (lists.md#version-lists)."""
        check_id_given(request.id if request.HasField("id") else None)
        query = list_query(listings.WORKFLOWS, "ListWorkflows", request)
        identifier = request.id
        async with connection_for_page(self._db, query) as connection:
            page = await listings.find_workflows(
                connection, query, identifier.project, identifier.domain, name=identifier.name
            )
        workflows = b"".join(message_field(WorkflowList.WORKFLOWS_FIELD_NUMBER, workflow) for workflow in page)
        return workflows + string_field(WorkflowList.TOKEN_FIELD_NUMBER, query.next_token(len(page), more=page.more))

    async def ListWorkflowIds(self, request: NamedEntityIdentifierListRequest, _call: Call) -> bytes:
        """Return a page of names (lists.md#name-lists)."""
        check_project_domain_given(request.project, request.domain)
        query = list_query(names.WORKFLOW_NAMES, "ListWorkflowIdentifiers", request)
        return await names_page(self._db, query, ResourceType.WORKFLOW, request)


def _compile_and_digest(
    spec: WorkflowSpec, needed: Requirements, tasks: list[bytes], launch_plans: list[bytes]
) -> _Compiled:
    workflow = compile_spec(spec, needed, tasks, launch_plans)
    return _Compiled(workflow, closure_bytes(workflow), workflow_digest(workflow))


def _all(
    resource_type: ResourceType, identifiers: Sequence[Identifier], messages: Sequence[bytes | None]
) -> list[bytes]:
    """Return `messages`, none of which is None; raise NotFound for the first of `identifiers` without one."""
    for identifier, message in zip(identifiers, messages, strict=True):
        if message is None:
            raise not_found(resource_type, identifier)
    return [message for message in messages if message is not None]
