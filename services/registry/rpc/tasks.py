"""Tasks (registry.md#createtask, registry.md#gettask)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from flyteidl.admin.common_pb2 import (
    NamedEntityIdentifierListRequest,
    ObjectGetRequest,
    ResourceListRequest,
)
from flyteidl.admin.task_pb2 import Task, TaskCreateRequest, TaskCreateResponse, TaskList, TaskSpec
from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.identifiers import check_complete, check_identifier
from services.contracts.projects import check_active_with_domain
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, ServiceError
from services.kit.lists.pages import connection_for_page
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox
from services.kit.protobuf.size_limit import check_entity_size
from services.kit.protobuf.wire import message_field, string_field
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call
from services.registry.compiler import CompilationFailed, compile_task
from services.registry.lists.pages import list_query, names_page
from services.registry.registration.projects import request_project_and_attributes
from services.registry.rules import duplicates
from services.registry.rules.digests import task_digest
from services.registry.rules.errors import not_found
from services.registry.rules.lists import check_id_given, check_project_domain_given
from services.registry.rules.resources import ResourceLimits, task_limits
from services.registry.rules.tasks import Whitelist, check_task, registered_task
from services.registry.store import listings, names
from services.registry.store import tasks as store


@dataclass(frozen=True)
class TaskPolicy:
    """What the settings allow: task types, and limits of resources where no attribute sets them."""

    whitelist: Whitelist
    limits: ResourceLimits


class TaskHandlers:
    """The RPCs about tasks."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        outbox: Outbox,
        cpu_pool: CpuPool,
        *,
        policy: TaskPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._bus = bus
        self._outbox = outbox
        self._cpu_pool = cpu_pool
        self._policy = policy
        self._clock = clock

    async def CreateTask(self, request: TaskCreateRequest, _call: Call) -> TaskCreateResponse:
        """Register a version (registry.md#createtask-steps).

        Raises:
            AlreadyExists: The same version is registered with the same structure.
            InvalidArgument: It is registered with another structure, or the request is invalid.
        """
        check_identifier(request.id if request.HasField("id") else None, ResourceType.TASK)
        size, spec = request.ByteSize(), request.spec
        response, stored = await asyncio.gather(
            request_project_and_attributes(self._bus, request.id), self._stored(request.id)
        )
        check_active_with_domain(response.project, request.id.domain)
        limits = task_limits(response.attributes, self._policy.limits)
        compiled, digest = await self._cpu_pool.run_unless_small(
            size, _check_and_compile, request.id, spec, self._policy.whitelist, limits
        )
        if stored is None:
            stored = await self._insert(compiled, digest, spec, size)
        if stored is not None:
            raise await self._cpu_pool.run(_duplicate, compiled, digest, stored)
        return TaskCreateResponse()

    async def _stored(self, task: Identifier) -> store.Stored | None:
        async with self._db.read() as connection:
            return await store.get(connection, task)

    async def _insert(self, compiled: CompiledTask, digest: bytes, spec: TaskSpec, size: int) -> store.Stored | None:
        """Insert a task whose request has `size` bytes; return the existing one if a concurrent call was first."""
        now = self._clock()
        description = spec.description if spec.HasField("description") else None
        task = await self._cpu_pool.run_unless_small(
            size, registered_task, compiled, spec.description.short_description, now
        )
        check_entity_size("task", task.ByteSize())
        async with self._db.autocommit() as connection:
            if not await store.insert(connection, task, digest, now, description):
                return await store.get(connection, task.id)
        self._outbox.filled.set()
        return None

    async def GetTask(self, request: ObjectGetRequest, _call: Call) -> bytes:
        """Return a version, whatever the resource type of the id; raise InvalidArgument, NotFound."""
        check_complete(request.id if request.HasField("id") else None)
        stored = await self._stored(request.id)
        if stored is None:
            raise not_found(ResourceType.TASK, request.id)
        return stored.message

    async def ListTasks(self, request: ResourceListRequest, _call: Call) -> bytes:
        """Return a page of versions, of one name or of all (lists.md#version-lists)."""
        check_id_given(request.id if request.HasField("id") else None)
        query = list_query(listings.TASKS, "ListTasks", request)
        identifier = request.id
        async with connection_for_page(self._db, query) as connection:
            page = await listings.find_tasks(
                connection, query, identifier.project, identifier.domain, name=identifier.name
            )
        tasks = b"".join(message_field(TaskList.TASKS_FIELD_NUMBER, task) for task in page)
        return tasks + string_field(TaskList.TOKEN_FIELD_NUMBER, query.next_token(len(page), more=page.more))

    async def ListTaskIds(self, request: NamedEntityIdentifierListRequest, _call: Call) -> bytes:
        """Return a page of names (lists.md#name-lists)."""
        check_project_domain_given(request.project, request.domain)
        query = list_query(names.TASK_NAMES, "ListUniqueTaskIdentifiers", request)
        return await names_page(self._db, query, ResourceType.TASK, request)


def _check_and_compile(
    task: Identifier, spec: TaskSpec, whitelist: Whitelist, limits: ResourceLimits
) -> tuple[CompiledTask, bytes]:
    """Return the compiled form of `spec`, to be registered as `task`, and its digest; raise InvalidArgument."""
    check_task(task, spec, whitelist, limits)
    spec.template.id.CopyFrom(task)
    try:
        compiled = compile_task(spec.template)
    except CompilationFailed as error:
        raise InvalidArgument(f"task failed compilation with {error}") from error
    return compiled, task_digest(compiled)


def _duplicate(compiled: CompiledTask, digest: bytes, stored: store.Stored) -> ServiceError:
    """Return the error of registering a version that is `stored` (registry.md#registering-a-task-twice)."""
    if stored.digest == digest:
        return duplicates.identical(duplicates.TASK)
    existing = Task.FromString(stored.message).closure.compiled_task
    return duplicates.different(duplicates.TASK, compiled.template.id.name, existing, compiled)
