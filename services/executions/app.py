"""Construction of the executions service: everything is made here, by hand, top to bottom."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

from flyteidl.service import admin_pb2, dataproxy_pb2, signal_pb2

from services.contracts.audit import CHANGES, resource_of
from services.contracts.authorization.switch import Authorization
from services.contracts.event_batches import EVENT_LANES
from services.contracts.flyte_services import SERVICE_NAMES
from services.executions.config import Settings
from services.executions.consumers.requests import ExecutionRequests
from services.executions.engine.dispatcher import EngineDispatcher
from services.executions.engine.interface import Engine
from services.executions.engine.kubernetes.clusters import Clusters
from services.executions.engine.kubernetes.engine import KubernetesEngine
from services.executions.engine.kubernetes.resources import ResourceBuilder
from services.executions.engine.kubernetes.workflows import RunnableWorkflows
from services.executions.engine.requests import RequestedEngine
from services.executions.events.batches import EventBatchConsumer
from services.executions.events.ownership import LaneOwnership
from services.executions.jobs.abort_reconciler import AbortReconciler
from services.executions.jobs.lost_executions import LostExecutions
from services.executions.launching.launcher import Launcher
from services.executions.rpc.artifacts import ArtifactHandlers
from services.executions.rpc.data import DataHandlers
from services.executions.rpc.data_proxy import DataProxyHandlers
from services.executions.rpc.execution_metrics import ExecutionMetricsHandlers
from services.executions.rpc.executions import ExecutionHandlers
from services.executions.rpc.node_executions import NodeExecutionHandlers
from services.executions.rpc.signals import SignalHandlers
from services.executions.rpc.task_executions import TaskExecutionHandlers
from services.executions.rules.configuration import default_config_of
from services.executions.rules.events.layout import ObjectLayout
from services.executions.rules.object_scopes import scopes_of_objects
from services.kit.audit.trail import AuditTrail
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox, Relay
from services.kit.objects.http_routes import object_routes
from services.kit.objects.store import ObjectStore
from services.kit.process.service import App, Connections
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Table

NAME = "executions"
# Of the pool `events_db`, which no RPC uses, so that nothing waits for RPCs: for the jobs that end executions, the
# requests of the event log and the check of readiness.
_EVENT_CONNECTIONS = 3
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
DATA_PROXY_SERVICE = dataproxy_pb2.DESCRIPTOR.services_by_name["DataProxyService"]
SIGNAL_SERVICE = signal_pb2.DESCRIPTOR.services_by_name["SignalService"]


async def build(settings: Settings, connections: Connections, stack: AsyncExitStack) -> App:
    """Build the service on `connections`; from then on it receives batches of events."""
    db, bus = connections.db, connections.bus
    objects = ObjectStore.open(settings.objects_url, settings.public_url, settings.signing_key, settings.bucket_access)
    outbox = Outbox()
    relay = Relay(NAME, db, bus, outbox)

    layout = ObjectLayout(objects.uri, settings.inline_event_outputs, settings.metadata_storage_prefix)
    events_db = await Database.open(settings.database_url, max_size=_EVENT_CONNECTIONS, by_key=True)
    stack.push_async_callback(events_db.close)
    # A connection for each lane. A pool uses its connections in turn, and each batch would wake another process of
    # PostgreSQL, whose memory has left the caches of the processor.
    lanes_db = await Database.open(settings.database_url, max_size=EVENT_LANES, by_key=True)
    stack.push_async_callback(lanes_db.close)
    batches = EventBatchConsumer(lanes_db, bus, objects, outbox, layout)
    await batches.listen()
    ownership = LaneOwnership(settings.database_url, bus, batches)

    default_config = default_config_of(settings)
    await ExecutionRequests(default_config, events_db).listen(bus)

    cpu_pool = CpuPool()
    stack.callback(cpu_pool.close)
    abort_patience = timedelta(seconds=settings.abort_patience_seconds)
    reconciler = AbortReconciler(events_db, outbox, layout, patience=abort_patience, clock=_now)

    loops = [relay.run, *ownership.loops, reconciler.run]
    engine = ENGINES[settings.engine](settings, bus, objects, cpu_pool, stack)
    if engine is not None:
        dispatcher = EngineDispatcher(db, engine, reconciler.end, settings=settings, clock=_now)
        lost_patience = timedelta(seconds=settings.lost_patience_seconds)
        lost = LostExecutions(events_db, engine, dispatcher, outbox, layout=layout, patience=lost_patience, clock=_now)
        loops += [partial(dispatcher.run, bus), lost.run]

    launcher = Launcher(
        db, bus, outbox, objects, cpu_pool=cpu_pool, settings=settings, default_config=default_config, clock=_now
    )
    authorization = Authorization.of(settings, scopes_of_objects(objects.uri(), settings))
    trail = AuditTrail.of(NAME, settings, db, bus, changes=CHANGES, resource_of=resource_of)
    data = DataHandlers(db, objects, cpu_pool, settings)
    data_proxy = DataProxyHandlers(db, objects, settings, _now)
    table = Table(cpu_pool, authorize=authorization.hook, audit=trail.audit)
    table.bind(
        ADMIN_SERVICE,
        ExecutionHandlers(db, outbox, objects, launcher, cpu_pool=cpu_pool, clock=_now),
        NodeExecutionHandlers(db),
        TaskExecutionHandlers(db),
        data,
        ExecutionMetricsHandlers(db, bus, objects, cpu_pool, authorization.authorizer),
    )
    table.bind(DATA_PROXY_SERVICE, data_proxy, ArtifactHandlers(db, data, data_proxy, cpu_pool))
    table.bind(SIGNAL_SERVICE, SignalHandlers(db))
    return App(
        table,
        services=SERVICE_NAMES,
        loops=[*loops, *authorization.loops, *trail.loops],
        routes=object_routes(objects, settings.upload_max_bytes),
        flush=trail.flush,
        checks={"the database": events_db.check_writes, "the object store": objects.check_writes},
    )


def _no_engine(
    _settings: Settings, _bus: Bus, _objects: ObjectStore, _cpu_pool: CpuPool, _stack: AsyncExitStack
) -> None:
    """Build nothing: another program runs executions and sends events."""


def _kubernetes(
    settings: Settings, bus: Bus, objects: ObjectStore, cpu_pool: CpuPool, stack: AsyncExitStack
) -> KubernetesEngine:
    clusters = Clusters.open(settings)
    stack.push_async_callback(clusters.close)
    workflows = RunnableWorkflows(bus, objects, cpu_pool)
    builder = ResourceBuilder(workflows, objects, cpu_pool, settings)
    return KubernetesEngine(clusters, builder, settings)


def _requested(
    _settings: Settings, bus: Bus, _objects: ObjectStore, _cpu_pool: CpuPool, _stack: AsyncExitStack
) -> RequestedEngine:
    return RequestedEngine(bus)


# Engines, by their names in the settings.
ENGINES: dict[str, Callable[[Settings, Bus, ObjectStore, CpuPool, AsyncExitStack], Engine | None]] = {
    "none": _no_engine,
    "kubernetes": _kubernetes,
    "requests": _requested,
}


def _now() -> datetime:
    return datetime.now(UTC)
