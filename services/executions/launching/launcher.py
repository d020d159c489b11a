"""Launch of an execution (executions.md#createexecution-steps).

The launcher checks the request, requests what it needs from other services, decides, and then writes: first the inputs,
at a URI that no other launch has, then the row, its tags and the announcement for the engine, in one transaction. The
row's unique name decides between launches with one name. The loser has changed nothing of the winner's and deletes its
own inputs (docs/decisions/0004-inputs-never-overwritten.md).
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionCreateResponse
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.admin.matchable_resource_pb2 import (
    ListMatchableAttributesResponse,
    MatchableAttributesConfiguration,
    WorkflowExecutionConfig,
)
from flyteidl.admin.project_pb2 import Project
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from services.contracts.casting import TypesTooLarge
from services.contracts.executions import EXECUTION_CREATED
from services.contracts.identifiers import GENERATED_PREFIX
from services.contracts.projects import check_active_with_domain, namespace_of, unregistered
from services.executions.config import Settings
from services.executions.launching.group_commit import GroupCommit
from services.executions.launching.launched_entities import EntityLease, LaunchedEntities
from services.executions.launching.projects import Projects
from services.executions.rules import attributes, configuration, create, errors, inputs, names
from services.executions.rules.attributes import Matching
from services.executions.rules.new_executions import LaunchedBy, LaunchedEntity, Origin, Parent, new_execution
from services.executions.store import executions as store
from services.executions.store import launches
from services.executions.store.launches import Launch
from services.kit.db.database import Database
from services.kit.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox
from services.kit.objects.store import ObjectStore
from services.kit.rpc.cpu_pool import CpuPool

# Random bytes in the folder name of a launch's inputs, written in hexadecimal.
_FOLDER_BYTES = 8
# Limits of checks on the event loop, which take some milliseconds; larger inputs are checked in the CPU pool.
_SMALL_BYTES = 16 * 1024
_FEW_STEPS = 2000
# After these errors the row does not exist. After others it may exist and contain the URIs of the written inputs.
_NOT_STORED = (InvalidArgument, AlreadyExists, ResourceExhausted, DeadlineExceeded)


class Launcher:
    """The launcher of executions; `default_config` is the last level of their configuration."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        outbox: Outbox,
        objects: ObjectStore,
        *,
        cpu_pool: CpuPool,
        settings: Settings,
        default_config: WorkflowExecutionConfig,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._bus = bus
        self._outbox = outbox
        self._group_commit = GroupCommit(db)
        self._projects = Projects(bus)
        self._objects = objects
        self._cpu_pool = cpu_pool
        self._settings = settings
        self._default_config = default_config
        self._clock = clock
        self._entities = LaunchedEntities(bus, cpu_pool)

    async def launch(
        self, request: ExecutionCreateRequest, by: LaunchedBy, source_execution_id: int = 0
    ) -> ExecutionCreateResponse:
        """Launch an execution.

        `source_execution_id` is the row id of the execution that is repeated, 0 without one.

        Raises:
            InvalidArgument: The request or its inputs are invalid, or the project is not registered or not active.
            NotFound: The launched entity or the parent node is missing.
            AlreadyExists: The name is in use, or the concurrency limit is reached.
        """
        create.check_project_domain_and_name(request)
        lease = self._entities.lease()
        try:
            return await self._launch(request, by, source_execution_id, lease)
        finally:
            lease.release()

    async def _launch(
        self, request: ExecutionCreateRequest, by: LaunchedBy, source_execution_id: int, lease: EntityLease
    ) -> ExecutionCreateResponse:
        scope = await self._attribute_scope(request, lease)  # requests the launch plan, unless it is cached
        project, matching = await self._project_and_attributes(request, scope)
        await self._check_spec(request)
        entity = await lease.entity(request.spec.launch_plan)
        given = create.inputs_of(request)
        resolved = await self._resolve_inputs(given, entity.launch_plan, on_loop=not lease.is_large)
        parent = await self._parent(request)
        principal = by.principal_with(parent)
        config = self._config(request, entity, matching, principal)
        execution = new_execution(
            request,
            name=request.name or names.generated_name(secrets.choice),
            entity=entity,
            config=create.with_project_labels(config, project.labels),
            attributes=self._applicable_attributes(request, entity, matching, parent),
            origin=Origin(principal, parent, source_execution_id),
            now=self._clock(),
            namespace_=namespace_of(self._settings.namespace_template, request.project, request.domain),
        )
        limited = create.has_concurrency_limit(entity)
        uris = await self._write_inputs(execution.id, resolved, given)
        try:
            await self._store(Launch(execution, *uris, execution.id.SerializeToString()), limited=limited)
        except _NOT_STORED:
            with suppress(Unavailable):  # the error to the caller is right in any case
                await self._objects.delete(set(uris))
            raise
        self._outbox.filled.set()
        return ExecutionCreateResponse(id=execution.id)

    async def _check_spec(self, request: ExecutionCreateRequest) -> None:
        if request.ByteSize() > _SMALL_BYTES:
            await self._cpu_pool.run(create.check_spec, request)
        else:
            create.check_spec(request)

    async def _resolve_inputs(self, given: LiteralMap, launch_plan: LaunchPlan, *, on_loop: bool) -> LiteralMap:
        """Return the inputs completed and checked, in the CPU pool if they are large or take many steps."""
        if on_loop and given.ByteSize() <= _SMALL_BYTES:
            with suppress(TypesTooLarge):
                return inputs.resolve(given, launch_plan, _FEW_STEPS)
        try:
            return await self._cpu_pool.run(inputs.resolve, given, launch_plan)
        except TypesTooLarge as error:
            raise InvalidArgument("the types of the inputs are too large to compare") from error

    async def _attribute_scope(
        self, request: ExecutionCreateRequest, lease: EntityLease
    ) -> MatchableAttributesConfiguration:
        """Return the attribute scope of a launch: its project-domain, workflow and launch plan, if they are known."""
        scope = MatchableAttributesConfiguration(project=request.project, domain=request.domain)
        identifier = request.spec.launch_plan
        if identifier.resource_type == ResourceType.TASK:
            # The name of a generated workflow is known, and nothing may be generated before the project is checked.
            scope.workflow = GENERATED_PREFIX + identifier.name
        elif identifier.resource_type == ResourceType.LAUNCH_PLAN:
            with suppress(InvalidArgument, NotFound):  # `_launch` raises it again, after the project and the spec
                entity = await lease.entity(identifier)
                scope.workflow, scope.launch_plan = entity.workflow_id.name, identifier.name
        return scope

    async def _project_and_attributes(
        self, request: ExecutionCreateRequest, scope: MatchableAttributesConfiguration
    ) -> tuple[Project, Matching]:
        """Return the project, checked, and the attributes that match `scope`, the most specific first."""
        try:
            found = await self._projects.get(scope)
        except NotFound as error:
            raise unregistered(request.project, request.domain, error) from error
        check_active_with_domain(found.project, request.domain)
        return found.project, found.attributes

    async def _parent(self, request: ExecutionCreateRequest) -> Parent | None:
        if not request.spec.metadata.HasField("parent_node_execution"):
            return None
        node: NodeExecutionIdentifier = request.spec.metadata.parent_node_execution
        async with self._db.read() as connection:
            parent = await store.get_parent(connection, node)
        if parent is None:
            raise errors.missing(node)
        return parent

    def _config(
        self, request: ExecutionCreateRequest, entity: LaunchedEntity, matching: Matching, principal: str
    ) -> WorkflowExecutionConfig:
        levels = attributes.config_levels(matching)
        config = configuration.merged(request.spec, entity.own_spec, levels, self._default_config, principal)
        create.check_entries(config, self._settings.max_label_entries, self._settings.max_annotation_entries)
        return config

    def _applicable_attributes(
        self, request: ExecutionCreateRequest, entity: LaunchedEntity, matching: Matching, parent: Parent | None
    ) -> ListMatchableAttributesResponse:
        pool = attributes.cluster_pool(matching, self._settings.cluster_pools.get(request.domain, ""))
        create.check_cluster_pool(request.spec.cluster_assignment.cluster_pool_name, pool)
        parent_spec = parent.spec if parent else None
        return attributes.applicable_attributes(matching, request.spec, entity.own_spec, parent_spec)

    async def _store(self, launch: Launch, *, limited: bool) -> None:
        """Store a launch; raises AlreadyExists for a name in use or a concurrency limit that is reached.

        Launches of a launch plan with a limit are stored one after the other, each in a transaction of its own.
        """
        if not limited:
            stored = await self._group_commit.store(launch)
        else:
            launch_plan = launch.execution.entity.launch_plan
            async with self._db.transaction() as connection:
                unfinished = await store.lock_and_count_unfinished(connection, launch_plan.id)
                create.check_concurrency(launch_plan.spec.concurrency_policy, unfinished, launch_plan.id.name)
                stored = bool(await launches.insert(connection, [launch], EXECUTION_CREATED.subject))
        if not stored:
            raise errors.name_in_use(launch.execution.id)

    async def _write_inputs(
        self, identifier: WorkflowExecutionIdentifier, resolved: LiteralMap, given: LiteralMap
    ) -> tuple[str, str]:
        """Write the resolved and the given inputs; return their URIs, one and the same if they are equal."""
        folder = ("metadata", identifier.project, identifier.domain, identifier.name, secrets.token_hex(_FOLDER_BYTES))
        inputs_uri, user_inputs_uri = self._objects.uri(*folder, "inputs"), self._objects.uri(*folder, "user_inputs")
        if resolved == given:
            await self._objects.put(inputs_uri, resolved.SerializeToString())
            return inputs_uri, inputs_uri
        await asyncio.gather(
            self._objects.put(inputs_uri, resolved.SerializeToString()),
            self._objects.put(user_inputs_uri, given.SerializeToString()),
        )
        return inputs_uri, user_inputs_uri
