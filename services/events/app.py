"""Construction of the events service."""

import uuid
from contextlib import AsyncExitStack

from flyteidl.service import admin_pb2

from services.contracts.event_batches import VERDICT_SUBJECTS
from services.contracts.flyte_services import SERVICE_NAMES
from services.events.config import Settings
from services.events.consumers.log_writer import LogWriter
from services.events.consumers.refusals import RefusedEventWriter
from services.events.ingest.batcher import Limits
from services.events.ingest.publisher import EventPublisher
from services.events.ingest.stall_detector import StallDetector
from services.events.ingest.streams import ensure_streams, log_consumer, renew_batches_stream
from services.events.jobs.log_retention import LogRetention
from services.events.jobs.verdict_backfill import VerdictBackfill
from services.events.rpc.events import EventHandlers
from services.kit.objects.store import ObjectStore
from services.kit.process.service import App, Parts
from services.kit.rpc.table import Table

NAME = "events"
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


async def build(settings: Settings, parts: Parts, _stack: AsyncExitStack) -> App:
    """Build the service on `parts`; from here on it receives verdicts and refused events."""
    # No signing key: this process gives no client a URL.
    objects = ObjectStore.open(settings.objects_url, public_url="", signing_key="")
    await renew_batches_stream(parts.db, parts.bus)
    publisher = EventPublisher(parts.bus, objects, Limits.of(settings), process_id=uuid.uuid4().hex)
    await ensure_streams(parts.bus, publisher.fail_appended)
    writer = LogWriter(parts.db, await log_consumer(parts.bus), parts.bus.mend)

    async def receive(verdicts: bytes) -> None:
        await publisher.receive_verdicts(verdicts)
        await writer.receive_verdicts(verdicts)

    # One subscription for both: the log needs all verdicts, this process's callers theirs.
    await parts.bus.subscribe(VERDICT_SUBJECTS, receive)
    await RefusedEventWriter(parts.db).listen(parts.bus)

    stall_detector = StallDetector()
    table = Table()
    table.bind(ADMIN_SERVICE, EventHandlers(publisher, stall_detector, settings.max_output_bytes))
    retention = LogRetention(parts.db, parts.bus, objects, settings.event_log_days)
    backfill = VerdictBackfill(parts.db, parts.bus)
    return App(
        table,
        services=SERVICE_NAMES,
        loops=[stall_detector.run, writer.run, backfill.run, retention.run],
        drain=[publisher.drain, writer.drain],
        checks={"the stream of events": publisher.check},
    )
