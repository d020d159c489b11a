"""Construction of the events service."""

import uuid
from contextlib import AsyncExitStack

from flyteidl.service import admin_pb2

from services.contracts.audit import CHANGES, resource_of
from services.contracts.authorization.switch import Authorization
from services.contracts.event_parts import check_parts
from services.contracts.flyte_services import SERVICE_NAMES
from services.events.config import Settings
from services.events.consumers.log_writer import LogWriter
from services.events.consumers.refusals import RefusedEventWriter
from services.events.ingest.limits import Limits
from services.events.ingest.publisher import EventPublisher
from services.events.ingest.stall_detector import StallDetector
from services.events.ingest.streams import declare_streams, delete_former_log_streams, replace_former_batches_stream
from services.events.jobs.log_retention import LogRetention
from services.events.rpc.events import EventHandlers
from services.kit.audit.trail import AuditTrail
from services.kit.objects.store import ObjectStore
from services.kit.process.service import App, Connections
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Table

NAME = "events"
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


async def build(settings: Settings, connections: Connections, stack: AsyncExitStack) -> App:
    """Build the service on `connections`; from here on it receives verdicts and refused events."""
    # No signing key: this process gives no client a URL.
    objects = ObjectStore.open(settings.objects_url, "", "", settings.bucket_access)
    await replace_former_batches_stream(connections.db, connections.bus)
    publisher = EventPublisher(connections.bus, objects, Limits.of(settings), process_id=uuid.uuid4().hex)
    await declare_streams(connections.bus, publisher.fail_appended)
    await delete_former_log_streams(connections.bus)
    writer = LogWriter(connections.db, connections.bus)

    async def receive(verdicts: bytes) -> None:
        await publisher.receive_verdicts(verdicts)
        writer.wake()

    await connections.bus.subscribe(publisher.verdict_subject, receive)
    await RefusedEventWriter(connections.db).listen(connections.bus)

    stall_detector = StallDetector()
    cpu_pool = CpuPool()
    stack.callback(cpu_pool.close)
    authorization = Authorization.of(settings)
    trail = AuditTrail.of(NAME, settings, connections.db, connections.bus, changes=CHANGES, resource_of=resource_of)
    table = Table(cpu_pool, check_parts, authorize=authorization.hook, audit=trail.audit)
    table.bind(ADMIN_SERVICE, EventHandlers(publisher, stall_detector, settings.max_output_bytes))
    retention = LogRetention(connections.db, connections.bus, objects, settings.event_log_days)
    return App(
        table,
        services=SERVICE_NAMES,
        loops=[stall_detector.run, writer.run, retention.run, *authorization.loops, *trail.loops],
        flush=[publisher.drain, writer.drain, *trail.flush],
        checks={"the stream of events": publisher.check},
    )
