"""The construction of the registry; no other module constructs its parts."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime

from flyteidl.core.tasks_pb2 import Resources
from flyteidl.service import admin_pb2

from services.contracts.audit import CHANGES, resource_of
from services.contracts.authorization.switch import Authorization
from services.contracts.flyte_services import SERVICE_NAMES
from services.kit.audit.trail import AuditTrail
from services.kit.messaging.outbox import Outbox, Relay
from services.kit.objects.store import ObjectStore
from services.kit.process.service import App, Connections
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Table
from services.registry.config import Settings
from services.registry.consumers.requests import RegistryRequests
from services.registry.registration.closures import ClosureStore
from services.registry.rpc.descriptions import DescriptionHandlers
from services.registry.rpc.launch_plans import LaunchPlanHandlers
from services.registry.rpc.names import NamedEntityHandlers
from services.registry.rpc.tasks import TaskHandlers, TaskPolicy
from services.registry.rpc.workflows import WorkflowHandlers
from services.registry.rules.resources import ResourceLimits
from services.registry.rules.workflows import WorkflowLimits

NAME = "registry"
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


async def build(settings: Settings, connections: Connections, stack: AsyncExitStack) -> App:
    """Build the service on `connections` and begin to serve other services."""
    objects = ObjectStore.open(settings.objects_url, "", "", settings.bucket_access)
    closures = ClosureStore(objects, settings.metadata_storage_prefix, settings.closure_cache_bytes)
    limits = WorkflowLimits(settings.max_workflow_nodes, settings.max_workflow_bytes)
    cpu_pool = CpuPool()
    stack.callback(cpu_pool.close)
    outbox = Outbox()
    relay = Relay(NAME, connections.db, connections.bus, outbox)

    tasks = TaskHandlers(connections.db, connections.bus, outbox, cpu_pool, policy=_policy(settings), clock=_now)
    workflows = WorkflowHandlers(connections.db, connections.bus, outbox, cpu_pool, closures, limits=limits, clock=_now)
    launch_plans = LaunchPlanHandlers(connections.db, connections.bus, outbox, cpu_pool, clock=_now)
    await RegistryRequests(connections.db, workflows.register, launch_plans.register).listen(connections.bus)

    names = NamedEntityHandlers(connections.db, clock=_now)
    descriptions = DescriptionHandlers(connections.db)
    authorization = Authorization.of(settings)
    trail = AuditTrail.of(NAME, settings, connections.db, connections.bus, changes=CHANGES, resource_of=resource_of)
    table = Table(cpu_pool, authorize=authorization.hook, audit=trail.audit)
    table.bind(ADMIN_SERVICE, tasks, workflows, launch_plans, names, descriptions)
    return App(
        table,
        services=SERVICE_NAMES,
        loops=[relay.run, *authorization.loops, *trail.loops],
        flush=trail.flush,
        checks={"the database": connections.db.check_writes},
    )


def _policy(settings: Settings) -> TaskPolicy:
    limits = settings.task_resource_limits
    quantities: dict[Resources.ResourceName, str] = {
        Resources.CPU: limits.cpu,
        Resources.MEMORY: limits.memory,
        Resources.GPU: limits.gpu,
        Resources.EPHEMERAL_STORAGE: limits.ephemeral_storage,
    }
    return TaskPolicy(settings.task_type_whitelist, ResourceLimits(quantities))


def _now() -> datetime:
    return datetime.now(UTC)
