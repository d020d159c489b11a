"""Service requests for registered versions, and for the launch plan of a single task."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from flyteidl.admin.common_pb2 import NamedEntityState, ObjectGetRequest, UrlBlob
from flyteidl.admin.launch_plan_pb2 import LaunchPlanCreateRequest
from flyteidl.admin.task_pb2 import Task
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.identifiers import check_complete
from services.contracts.registry import (
    GET_LAUNCH_PLAN,
    GET_TASK_LAUNCH_PLAN,
    LOCATE_WORKFLOW_CLOSURE,
)
from services.kit.db.database import Database
from services.kit.errors import AlreadyExists, NotFound
from services.kit.messaging.bus import Bus
from services.registry.rules.errors import not_found
from services.registry.rules.generated import generated_launch_plan, generated_workflow
from services.registry.store import launch_plans, tasks, workflows

RegisterWorkflow = Callable[[WorkflowCreateRequest, int], Awaitable[None]]
RegisterLaunchPlan = Callable[[LaunchPlanCreateRequest, workflows.Stored, int], Awaitable[None]]


class RegistryRequests:
    """The service requests of `services.contracts.registry`."""

    def __init__(
        self, db: Database, register_workflow: RegisterWorkflow, register_launch_plan: RegisterLaunchPlan
    ) -> None:
        self._db = db
        self._register_workflow = register_workflow
        self._register_launch_plan = register_launch_plan

    async def listen(self, bus: Bus) -> None:
        """Begin to serve the requests."""
        await bus.serve(LOCATE_WORKFLOW_CLOSURE, self.locate_workflow_closure)
        await bus.serve(GET_LAUNCH_PLAN, self.get_launch_plan)
        await bus.serve(GET_TASK_LAUNCH_PLAN, self.get_task_launch_plan)

    async def locate_workflow_closure(self, request: ObjectGetRequest) -> UrlBlob:
        """Return URI and size of the compiled closure; raise InvalidArgument, NotFound."""
        workflow = await self._workflow(_id(request))
        return UrlBlob(url=workflow.uri, bytes=workflow.size)

    async def get_launch_plan(self, request: ObjectGetRequest) -> bytes:
        """Return the launch plan, active or not; raise InvalidArgument, NotFound."""
        identifier = _id(request)
        plan = await self._launch_plan(identifier)
        if plan is None:
            raise not_found(ResourceType.LAUNCH_PLAN, identifier)
        return plan

    async def get_task_launch_plan(self, request: ObjectGetRequest) -> bytes:
        """Return the launch plan that runs a single task; generate it and its workflow if they are absent.

        Concurrent requests get the same launch plan.

        Raises:
            InvalidArgument: The identifier is incomplete.
            NotFound: There is no such task.
        """
        identifier = _id(request)
        generated = generated_launch_plan(identifier)
        plan = await self._launch_plan(generated.id)
        if plan is not None:
            return plan
        task = Task.FromString(await self._task(identifier))
        workflow = await self._ensure_workflow(generated_workflow(task.closure.compiled_task.template))
        await _register_once(self._register_launch_plan(generated, workflow, NamedEntityState.SYSTEM_GENERATED))
        return await self._launch_plan(generated.id) or b""

    async def _ensure_workflow(self, workflow: WorkflowCreateRequest) -> workflows.Stored:
        """Return the generated workflow as it is stored, maybe by another release; register it if it is absent."""
        with suppress(NotFound):
            return await self._workflow(workflow.id)
        await _register_once(self._register_workflow(workflow, NamedEntityState.SYSTEM_GENERATED))
        return await self._workflow(workflow.id)

    async def _task(self, identifier: Identifier) -> bytes:
        async with self._db.read() as connection:
            stored = await tasks.get(connection, identifier)
        if stored is None:
            raise not_found(ResourceType.TASK, identifier)
        return stored.message

    async def _workflow(self, identifier: Identifier) -> workflows.Stored:
        async with self._db.read() as connection:
            stored = await workflows.get(connection, identifier)
        if stored is None:
            raise not_found(ResourceType.WORKFLOW, identifier)
        return stored

    async def _launch_plan(self, identifier: Identifier) -> bytes | None:
        async with self._db.read() as connection:
            stored = await launch_plans.get(connection, identifier)
        return stored.message if stored else None


def _id(request: ObjectGetRequest) -> Identifier:
    check_complete(request.id if request.HasField("id") else None)
    return request.id


async def _register_once(registration: Awaitable[None]) -> None:
    """Await a registration; succeed also if the version exists, for example by a concurrent request."""
    try:
        await registration
    except AlreadyExists:
        return
