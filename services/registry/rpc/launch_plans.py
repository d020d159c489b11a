"""Launch plans: their registration, and the one active version of each name.

See registry.md#createlaunchplan, registry.md#reading-launch-plans and registry.md#updatelaunchplan.
"""

from collections.abc import Callable
from datetime import datetime

from flyteidl.admin.common_pb2 import (
    NamedEntityIdentifier,
    NamedEntityIdentifierListRequest,
    NamedEntityState,
    ObjectGetRequest,
    ResourceListRequest,
)
from flyteidl.admin.launch_plan_pb2 import (
    ActiveLaunchPlanListRequest,
    ActiveLaunchPlanRequest,
    LaunchPlan,
    LaunchPlanCreateRequest,
    LaunchPlanCreateResponse,
    LaunchPlanList,
    LaunchPlanState,
    LaunchPlanUpdateRequest,
    LaunchPlanUpdateResponse,
)
from flyteidl.admin.workflow_pb2 import Workflow
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.identifiers import check_complete, check_identifier, identifier_text
from services.contracts.projects import check_active_with_domain
from services.contracts.registry import (
    LAUNCH_PLAN_ACTIVATED,
    LAUNCH_PLAN_DEACTIVATED,
)
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, NotFound, ServiceError
from services.kit.lists.pages import Page, connection_for_page
from services.kit.lists.query import ListQuery
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox
from services.kit.protobuf.size_limit import check_entity_size
from services.kit.protobuf.wire import message_field, string_field
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call
from services.registry.lists.pages import list_query, names_page
from services.registry.registration.projects import request_project
from services.registry.rules import duplicates
from services.registry.rules import launch_plans as rules
from services.registry.rules.digests import launch_plan_digest
from services.registry.rules.errors import not_found
from services.registry.rules.lists import check_id_given, check_project_domain_given, check_project_or_domain_given
from services.registry.rules.schedules import NONE, SCHEDULED, normalized_schedule, schedule_type
from services.registry.store import launch_plans as store
from services.registry.store import listings, names, schedules, workflows


class LaunchPlanHandlers:
    """The RPCs about launch plans."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        outbox: Outbox,
        cpu_pool: CpuPool,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._bus = bus
        self._outbox = outbox
        self._cpu_pool = cpu_pool
        self._clock = clock

    async def CreateLaunchPlan(self, request: LaunchPlanCreateRequest, _call: Call) -> LaunchPlanCreateResponse:
        """Register a version, inactive; its workflow is checked before its own id."""
        spec = request.spec
        check_identifier(spec.workflow_id if spec.HasField("workflow_id") else None, ResourceType.WORKFLOW)
        async with self._db.read() as connection:
            workflow = await workflows.get(connection, spec.workflow_id)
        if workflow is None:
            raise not_found(ResourceType.WORKFLOW, spec.workflow_id)
        check_identifier(request.id if request.HasField("id") else None, ResourceType.LAUNCH_PLAN)
        project = await request_project(self._bus, request.id)
        check_active_with_domain(project, request.id.domain)
        await self.register(request, workflow, NamedEntityState.NAMED_ENTITY_ACTIVE)
        return LaunchPlanCreateResponse()

    async def register(self, request: LaunchPlanCreateRequest, workflow: workflows.Stored, name_state: int) -> None:
        """Check and store a launch plan of `workflow`; `name_state` is for a new name. Raise as CreateLaunchPlan."""
        now = self._clock()
        interface = Workflow.FromString(workflow.message).closure.compiled_workflow.primary.template.interface
        plan = await self._cpu_pool.run(rules.checked_launch_plan, request.id, request.spec, interface, now)
        digest = await self._cpu_pool.run(launch_plan_digest, plan)
        async with self._db.read() as connection:
            stored = await store.get(connection, request.id)
        if stored is None:
            kind = schedule_type(request.spec.entity_metadata.schedule)
            new = store.New(
                await self._cpu_pool.run(rules.registered_launch_plan, plan, now),
                workflow.id,
                schedule_type=kind,
                launch_condition_type=None if kind == NONE else SCHEDULED,
                digest=digest,
                name_state=name_state,
            )
            stored = await self._insert(new, now)
        if stored is not None:
            raise await self._cpu_pool.run(_duplicate, plan, digest, stored)

    async def _insert(self, new: store.New, now: datetime) -> store.Stored | None:
        """Insert a launch plan; return the existing one if a concurrent call was first."""
        check_entity_size("launch plan", new.plan.ByteSize())
        async with self._db.autocommit() as connection:
            if not await store.insert(connection, new, now):
                return await store.get(connection, new.plan.id)
        self._outbox.filled.set()
        return None

    async def GetLaunchPlan(self, request: ObjectGetRequest, _call: Call) -> bytes:
        """Return a version, active or not; raise InvalidArgument, NotFound."""
        identifier = _with_implied_type(request)
        check_identifier(identifier, ResourceType.LAUNCH_PLAN)
        async with self._db.read() as connection:
            stored = await store.get(connection, request.id)
        if stored is None:
            raise not_found(ResourceType.LAUNCH_PLAN, request.id)
        return stored.message

    async def GetActiveLaunchPlan(self, request: ActiveLaunchPlanRequest, _call: Call) -> bytes:
        """Return the active version of a name; raise InvalidArgument, or NotFound when none is active."""
        name: NamedEntityIdentifier = request.id
        check_project_domain_given(name.project, name.domain)
        if not name.name:
            raise InvalidArgument("missing name")
        async with self._db.read() as connection:
            plan = await store.get_active(connection, name.project, name.domain, name.name)
        if plan is None:
            raise NotFound(f"No active launch plan could be found: {name.project}:{name.domain}:{name.name}")
        return plan

    async def UpdateLaunchPlan(self, request: LaunchPlanUpdateRequest, _call: Call) -> LaunchPlanUpdateResponse:
        """Activate or deactivate a version; activation deactivates the other active version of the name."""
        identifier = _with_implied_type(request)
        if request.state == LaunchPlanState.INACTIVE:
            check_identifier(identifier, ResourceType.LAUNCH_PLAN)
            await self._deactivate(request.id)
        elif request.state == LaunchPlanState.ACTIVE:
            check_complete(identifier)
            await self._activate(request.id)
        else:
            raise InvalidArgument(
                f"Unrecognized launch plan state {request.state} for update for launch plan "
                f"[{identifier_text(request.id)}]"
            )
        return LaunchPlanUpdateResponse()

    async def _activate(self, identifier: Identifier) -> None:
        """Make this the one active version of its name, and its schedule the active one."""
        async with self._db.transaction() as connection:
            plan = await store.lock(connection, identifier)
            if plan is None:
                raise not_found(ResourceType.LAUNCH_PLAN, identifier)
            now = self._clock()  # under the lock, so that the times of changes of one name are in their order
            for other in await store.deactivate_others(connection, identifier, now):
                await self._outbox.put(connection, LAUNCH_PLAN_DEACTIVATED, other)
            await store.set_state(connection, identifier, LaunchPlanState.ACTIVE, now)
            await schedules.deactivate(connection, identifier, now)
            if schedule := normalized_schedule(plan.spec.entity_metadata.schedule):
                await schedules.activate(connection, identifier, schedule, now)
            await self._outbox.put(connection, LAUNCH_PLAN_ACTIVATED, plan.id)

    async def _deactivate(self, identifier: Identifier) -> None:
        """Make this version and its schedule inactive; another version of the name is left as it is."""
        async with self._db.transaction() as connection:
            plan = await store.lock(connection, identifier)
            if plan is None:
                raise not_found(ResourceType.LAUNCH_PLAN, identifier)
            now = self._clock()  # under the lock, so that the times of changes of one name are in their order
            previous = await store.set_state(connection, identifier, LaunchPlanState.INACTIVE, now)
            await schedules.deactivate_version(connection, identifier, now)
            if previous == LaunchPlanState.ACTIVE:
                await self._outbox.put(connection, LAUNCH_PLAN_DEACTIVATED, plan.id)

    async def ListLaunchPlans(self, request: ResourceListRequest, _call: Call) -> bytes:
        """Return a page of versions, of one name or of all; filters may name the workflow's columns, too."""
        check_id_given(request.id if request.HasField("id") else None)
        query = list_query(listings.LAUNCH_PLANS, "ListLaunchPlans", request)
        identifier = request.id
        async with connection_for_page(self._db, query) as connection:
            page = await listings.find_launch_plans(
                connection, query, identifier.project, identifier.domain, name=identifier.name
            )
        return _page_bytes(query, page)

    async def ListActiveLaunchPlans(self, request: ActiveLaunchPlanListRequest, _call: Call) -> bytes:
        """Return a page of the active versions, at most one of each name."""
        check_project_domain_given(request.project, request.domain)
        unfiltered = ResourceListRequest(limit=request.limit, token=request.token)
        if request.HasField("sort_by"):
            unfiltered.sort_by.CopyFrom(request.sort_by)
        query = list_query(listings.LAUNCH_PLANS, "ListActiveLaunchPlans", unfiltered)
        async with connection_for_page(self._db, query) as connection:
            page = await listings.find_launch_plans(connection, query, request.project, request.domain, active=True)
        return _page_bytes(query, page)

    async def ListLaunchPlanIds(self, request: NamedEntityIdentifierListRequest, _call: Call) -> bytes:
        """Return a page of names, of a project, a domain or both."""
        query = list_query(names.LAUNCH_PLAN_NAMES, "", request)
        check_project_or_domain_given(request.project, request.domain)  # last in this list
        return await names_page(self._db, query, ResourceType.LAUNCH_PLAN, request)


def _with_implied_type(request: ObjectGetRequest | LaunchPlanUpdateRequest) -> Identifier | None:
    """Return the id of a request with the resource type that the RPC implies; None when there is no id."""
    if not request.HasField("id"):
        return None
    if request.id.resource_type == ResourceType.UNSPECIFIED:
        request.id.resource_type = ResourceType.LAUNCH_PLAN
    return request.id


def _duplicate(plan: LaunchPlan, digest: bytes, stored: store.Stored) -> ServiceError:
    """Return the error of registering a version that is `stored` (registry.md#createlaunchplan-steps)."""
    if stored.digest == digest:
        return duplicates.identical(duplicates.LAUNCH_PLAN)
    existing = rules.as_sent(LaunchPlan.FromString(stored.message))
    return duplicates.different(duplicates.LAUNCH_PLAN, plan.id.name, existing, plan)


def _page_bytes(query: ListQuery, page: Page[bytes]) -> bytes:
    launch_plans = b"".join(message_field(LaunchPlanList.LAUNCH_PLANS_FIELD_NUMBER, message) for message in page)
    return launch_plans + string_field(LaunchPlanList.TOKEN_FIELD_NUMBER, query.next_token(len(page), more=page.more))
