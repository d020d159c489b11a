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

from cachetools import LRUCache
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionCreateResponse
from flyteidl.admin.matchable_resource_pb2 import (
    ListMatchableAttributesResponse,
    MatchableAttributesConfiguration,
    WorkflowExecutionConfig,
)
from flyteidl.core.identifier_pb2 import Identifier, NodeExecutionIdentifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from services.contracts.casting import TypesTooLarge
from services.contracts.executions import EXECUTION_CREATED
from services.contracts.identifiers import GENERATED_PREFIX
from services.contracts.projects import ProjectAndAttributes, check_active_with_domain, unregistered
from services.contracts.registry import GET_LAUNCH_PLAN, LAUNCH_TASK
from services.executions.config import Settings
from services.executions.launching.batches import LaunchBatcher
from services.executions.launching.projects import Projects
from services.executions.rules import attributes, configuration, create, errors, inputs, names
from services.executions.rules.new_executions import Origin, Parent, Target, namespace, new_execution
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

# Registered versions never change, so the registry's responses are cached: some hundred kilobytes each at worst, a few
# kilobytes usually.
_CACHED_TARGETS = 1000
# Random bytes in the folder name of a launch's inputs, written in hexadecimal.
_FOLDER_BYTES = 8
# Limits of checks on the event loop, which take some milliseconds; larger inputs are checked in the CPU pool.
_SMALL_BYTES = 16 * 1024
_FEW_STEPS = 2000
# After these errors the row does not exist. After others it may exist and contain the URIs of the written inputs.
_NOT_STORED = (InvalidArgument, AlreadyExists, ResourceExhausted, DeadlineExceeded)


class Launcher:
    """The launcher of executions; `platform` is the last level of their configuration."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        outbox: Outbox,
        objects: ObjectStore,
        *,
        cpu_pool: CpuPool,
        settings: Settings,
        platform: WorkflowExecutionConfig,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._bus = bus
        self._outbox = outbox
        self._batches = LaunchBatcher(db)
        self._projects = Projects(bus)
        self._objects = objects
        self._cpu_pool = cpu_pool
        self._settings = settings
        self._platform = platform
        self._clock = clock
        self._targets: LRUCache[bytes, Target] = LRUCache(_CACHED_TARGETS)

    async def launch(
        self, request: ExecutionCreateRequest, principal: str, source_execution_id: int = 0
    ) -> ExecutionCreateResponse:
        """Launch an execution for `principal`, the caller, "" when unknown.

        `source_execution_id` is the row id of the execution that is repeated, 0 without one.

        Raises:
            InvalidArgument: The request or its inputs are invalid, or the project is not registered or not active.
            NotFound: The launched entity or the parent node is missing.
            AlreadyExists: The name is in use, or the concurrency limit is reached.
        """
        create.check_project_and_domain(request)
        project = await self._project(request)
        await self._check_spec(request)
        target = await self._target(request.spec.launch_plan)
        given = create.inputs_of(request)
        complete = await self._complete(given, target)
        parent = await self._parent(request)
        new = new_execution(
            request,
            name=request.name or names.generated_name(secrets.choice),
            target=target,
            config=self._config(request, target, project, principal),
            attributes=self._attributes(request, target, project, parent),
            origin=Origin(principal, parent, source_execution_id),
            now=self._clock(),
            namespace_=namespace(self._settings.namespace_template, request.project, request.domain),
        )
        limited = create.limited(target)
        uris = await self._write_inputs(new.id, complete, given)
        try:
            await self._store(Launch(new, *uris, new.id.SerializeToString()), limited=limited)
        except _NOT_STORED:
            with suppress(Unavailable):  # the error to the caller is right in any case
                await self._objects.delete(set(uris))
            raise
        self._outbox.filled.set()
        return ExecutionCreateResponse(id=new.id)

    async def _check_spec(self, request: ExecutionCreateRequest) -> None:
        if request.ByteSize() > _SMALL_BYTES:
            await self._cpu_pool.run(create.check_spec, request)
        else:
            create.check_spec(request)

    async def _complete(self, given: LiteralMap, target: Target) -> LiteralMap:
        """Complete and check inputs, in the CPU pool if they are large or take many steps."""
        if given.ByteSize() <= _SMALL_BYTES:
            with suppress(TypesTooLarge):
                return inputs.resolved(given, target.launch_plan, _FEW_STEPS)
        try:
            return await self._cpu_pool.run(inputs.resolved, given, target.launch_plan)
        except TypesTooLarge as error:
            raise InvalidArgument("the types of the inputs are too large to compare") from error

    async def _project(self, request: ExecutionCreateRequest) -> ProjectAndAttributes:
        scope = await self._scope(request)
        try:
            project = await self._projects.get(scope)
        except NotFound as error:
            raise unregistered(request.project, request.domain, error) from error
        check_active_with_domain(project.project, request.domain)
        return project

    async def _scope(self, request: ExecutionCreateRequest) -> MatchableAttributesConfiguration:
        """Return the attribute scope of a launch."""
        scope = MatchableAttributesConfiguration(project=request.project, domain=request.domain)
        identifier = request.spec.launch_plan
        if identifier.resource_type == ResourceType.TASK:
            # The name of a generated workflow is known, and nothing may be generated before the project is checked.
            scope.workflow = GENERATED_PREFIX + identifier.name
        elif identifier.resource_type == ResourceType.LAUNCH_PLAN:
            with suppress(InvalidArgument, NotFound):  # launch() raises it again, after the project and the spec
                target = await self._target(identifier)
                scope.workflow, scope.launch_plan = target.workflow_id.name, identifier.name
        return scope

    async def _target(self, identifier: Identifier) -> Target:
        key = identifier.SerializeToString(deterministic=True)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = await self._request_target(identifier)
        return target

    async def _request_target(self, identifier: Identifier) -> Target:
        request = ObjectGetRequest(id=identifier)
        if identifier.resource_type == ResourceType.LAUNCH_PLAN:
            launch_plan = await self._bus.request(GET_LAUNCH_PLAN, request)
            return Target(launch_plan, launch_plan.spec.workflow_id)
        launch_plan = await self._bus.request(LAUNCH_TASK, request)
        workflow = Identifier()
        workflow.CopyFrom(launch_plan.id)
        workflow.resource_type = ResourceType.WORKFLOW
        return Target(launch_plan, workflow, identifier)

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
        self, request: ExecutionCreateRequest, target: Target, project: ProjectAndAttributes, principal: str
    ) -> WorkflowExecutionConfig:
        settings = self._settings
        levels = attributes.config_levels(project.attributes)
        config = configuration.merged(request.spec, target.own_spec, levels, self._platform, principal)
        create.check_entries(config, settings.max_label_entries, settings.max_annotation_entries)
        return create.with_project_labels(config, project.project.labels)

    def _attributes(
        self, request: ExecutionCreateRequest, target: Target, project: ProjectAndAttributes, parent: Parent | None
    ) -> ListMatchableAttributesResponse:
        configured = self._settings.cluster_pools.get(request.domain, "")
        pool = attributes.cluster_pool(project.attributes, configured)
        create.check_cluster_pool(request.spec.cluster_assignment.cluster_pool_name, pool)
        parent_spec = parent.spec if parent else None
        return attributes.acting(project.attributes, request.spec, target.own_spec, parent_spec)

    async def _store(self, launch: Launch, *, limited: bool) -> None:
        """Store a launch; raises AlreadyExists for a name in use or a concurrency limit that is reached.

        Launches of a launch plan with a limit are stored one after the other, each in a transaction of its own.
        """
        if not limited:
            stored = await self._batches.store(launch)
        else:
            launch_plan = launch.new.target.launch_plan
            async with self._db.transaction() as connection:
                active = await store.take_turn(connection, launch_plan.id)
                create.check_concurrency(launch_plan.spec.concurrency_policy, active, launch_plan.id.name)
                stored = bool(await launches.insert(connection, [launch], EXECUTION_CREATED.subject))
        if not stored:
            raise errors.taken(launch.new.id)

    async def _write_inputs(
        self, identifier: WorkflowExecutionIdentifier, complete: LiteralMap, given: LiteralMap
    ) -> tuple[str, str]:
        """Write the complete and the given inputs; return their URIs, one and the same if they are equal."""
        own = secrets.token_hex(_FOLDER_BYTES)
        folder = ("metadata", identifier.project, identifier.domain, identifier.name, own)
        inputs_uri, user_inputs_uri = self._objects.uri(*folder, "inputs"), self._objects.uri(*folder, "user_inputs")
        if complete == given:
            await self._objects.put(inputs_uri, complete.SerializeToString())
            return inputs_uri, inputs_uri
        await asyncio.gather(
            self._objects.put(inputs_uri, complete.SerializeToString()),
            self._objects.put(user_inputs_uri, given.SerializeToString()),
        )
        return inputs_uri, user_inputs_uri
