"""Launching: what CreateExecution, RelaunchExecution and RecoverExecution have in common.

Check, ask, decide, then write: inputs first, under a path that no other launch has, then the row, its tags and the
fact that makes an engine run it, in one transaction. The row's unique name decides between launches of one name;
whoever loses has touched nothing of the winner's and takes its own inputs away
(docs/decisions/0004-inputs-never-overwritten.md).
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

from services.contracts.attributes import ProjectAndAttributes
from services.contracts.casting import TypesTooLarge
from services.contracts.executions import EXECUTION_CREATED
from services.contracts.identifiers import GENERATED_PREFIX
from services.contracts.projects import check_registered, unregistered
from services.contracts.registry import GET_LAUNCH_PLAN, LAUNCH_TASK
from services.executions.config import Settings
from services.executions.launching.batches import LaunchBatcher
from services.executions.launching.projects import Projects
from services.executions.rules import attributes, configuration, create, inputs, lookups, names
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

# Registered versions never change, so what the registry said of one is kept: some hundred kilobytes each at worst, a
# few kilobytes as a rule.
_TARGETS_KEPT = 1000
# Random bytes that make the folder of one launch's inputs its own, written as twice as many characters.
_FOLDER_BYTES = 8
# What is checked on the event loop, some milliseconds at most; more is checked beside it.
_SMALL_BYTES = 16 * 1024
_FEW_STEPS = 2000
# After these the row is not there. After others nobody knows, and it may name the inputs that were written.
_NOT_STORED = (InvalidArgument, AlreadyExists, ResourceExhausted, DeadlineExceeded)


class Launcher:
    """Launches executions; `platform` is the last level of their configuration."""

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
        self._targets: LRUCache[bytes, create.Target] = LRUCache(_TARGETS_KEPT)

    async def launch(
        self, request: ExecutionCreateRequest, principal: str, source_execution_id: int = 0
    ) -> ExecutionCreateResponse:
        """Launch what `request` asks for; raises InvalidArgument, NotFound, AlreadyExists (executions.md 2.1)."""
        create.check_project_and_domain(request)
        place = await self._place(request)
        await self._check_spec(request)
        target = await self._target(request.spec.launch_plan)
        given = create.inputs_of(request)
        complete = await self._complete(given, target)
        parent = await self._parent(request)
        new = create.new_execution(
            request,
            name=request.name or names.generated_name(secrets.choice),
            target=target,
            config=self._config(request, target, place, principal),
            attributes=self._attributes(request, target, place, parent),
            origin=create.Origin(principal, parent, source_execution_id),
            now=self._clock(),
            namespace_=create.namespace(self._settings.namespace_template, request.project, request.domain),
        )
        limited = create.limited(target)
        uris = await self._write_inputs(new.id, complete, given)
        try:
            await self._store(Launch(new, *uris, new.id.SerializeToString()), limited=limited)
        except _NOT_STORED:
            with suppress(Unavailable):  # the answer is as right as ever
                await self._objects.delete(set(uris))
            raise
        self._outbox.filled.set()
        return ExecutionCreateResponse(id=new.id)

    async def _check_spec(self, request: ExecutionCreateRequest) -> None:
        if request.ByteSize() > _SMALL_BYTES:
            await self._cpu_pool.run(create.check_spec, request)
        else:
            create.check_spec(request)

    async def _complete(self, given: LiteralMap, target: create.Target) -> LiteralMap:
        """Complete and check inputs, beside the event loop when they turn out to be much work."""
        if given.ByteSize() <= _SMALL_BYTES:
            with suppress(TypesTooLarge):
                return inputs.resolved(given, target.launch_plan, _FEW_STEPS)
        try:
            return await self._cpu_pool.run(inputs.resolved, given, target.launch_plan)
        except TypesTooLarge as error:
            raise InvalidArgument("the types of the inputs are too large to compare") from error

    async def _place(self, request: ExecutionCreateRequest) -> ProjectAndAttributes:
        scope = await self._scope(request)
        try:
            place = await self._projects.get(scope)
        except NotFound as error:
            raise unregistered(request.project, request.domain, error) from error
        check_registered(place.project, request.domain)
        return place

    async def _scope(self, request: ExecutionCreateRequest) -> MatchableAttributesConfiguration:
        """Where attributes that concern a launch may have been set."""
        scope = MatchableAttributesConfiguration(project=request.project, domain=request.domain)
        identifier = request.spec.launch_plan
        if identifier.resource_type == ResourceType.TASK:
            # Of a task the name is known, and nothing may be generated before the project was looked at.
            scope.workflow = GENERATED_PREFIX + identifier.name
        elif identifier.resource_type == ResourceType.LAUNCH_PLAN:
            with suppress(InvalidArgument, NotFound):  # which is told when project and spec are found good
                target = await self._target(identifier)
                scope.workflow, scope.launch_plan = target.workflow_id.name, identifier.name
        return scope

    async def _target(self, identifier: Identifier) -> create.Target:
        key = identifier.SerializeToString(deterministic=True)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = await self._ask_target(identifier)
        return target

    async def _ask_target(self, identifier: Identifier) -> create.Target:
        question = ObjectGetRequest(id=identifier)
        if identifier.resource_type == ResourceType.LAUNCH_PLAN:
            launch_plan = await self._bus.request(GET_LAUNCH_PLAN, question)
            return create.Target(launch_plan, launch_plan.spec.workflow_id)
        launch_plan = await self._bus.request(LAUNCH_TASK, question)
        workflow = Identifier()
        workflow.CopyFrom(launch_plan.id)
        workflow.resource_type = ResourceType.WORKFLOW
        return create.Target(launch_plan, workflow, identifier)

    async def _parent(self, request: ExecutionCreateRequest) -> create.Parent | None:
        if not request.spec.metadata.HasField("parent_node_execution"):
            return None
        node: NodeExecutionIdentifier = request.spec.metadata.parent_node_execution
        async with self._db.read() as connection:
            parent = await store.get_parent(connection, node)
        if parent is None:
            raise lookups.missing(node)
        return parent

    def _config(
        self, request: ExecutionCreateRequest, target: create.Target, place: ProjectAndAttributes, principal: str
    ) -> WorkflowExecutionConfig:
        settings = self._settings
        levels = attributes.config_levels(place.attributes)
        config = configuration.merged(request.spec, target.own_spec, levels, self._platform, principal)
        create.check_entries(config, settings.max_label_entries, settings.max_annotation_entries)
        return create.with_project_labels(config, place.project.labels)

    def _attributes(
        self,
        request: ExecutionCreateRequest,
        target: create.Target,
        place: ProjectAndAttributes,
        parent: create.Parent | None,
    ) -> ListMatchableAttributesResponse:
        configured = self._settings.cluster_pools.get(request.domain, "")
        pool = attributes.cluster_pool(place.attributes, configured)
        create.check_cluster_pool(request.spec.cluster_assignment.cluster_pool_name, pool)
        parent_spec = parent.spec if parent else None
        return attributes.acting(place.attributes, request.spec, target.own_spec, parent_spec)

    async def _store(self, launch: Launch, *, limited: bool) -> None:
        """Store a launch; raises AlreadyExists for a name in use or a limit that is reached.

        Where its launch plan is limited, in a transaction that the plan's others wait for.
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
            raise lookups.taken(launch.new.id)

    async def _write_inputs(
        self, identifier: WorkflowExecutionIdentifier, complete: LiteralMap, given: LiteralMap
    ) -> tuple[str, str]:
        """Write both maps; answers their URIs, which are the same when the maps are."""
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
