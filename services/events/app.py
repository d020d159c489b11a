"""Builds the events service, by hand, top to bottom; nothing else here makes parts."""

import uuid
from contextlib import AsyncExitStack

from flyteidl.service import admin_pb2

from services.contracts.event_batches import VERDICTS
from services.contracts.flyte_services import SERVICE_NAMES
from services.events.config import Settings
from services.events.consumers.log_writer import LogWriter
from services.events.consumers.refusals import RefusedEventWriter
from services.events.ingest.batcher import Limits
from services.events.ingest.publisher import EventPublisher
from services.events.ingest.stall_detector import StallDetector
from services.events.ingest.streams import make_ready, replace_former
from services.events.jobs.log_retention import LogRetention
from services.events.jobs.missed_verdicts import VerdictBackfill
from services.events.rpc.events import EventHandlers
from services.kit.objects.store import ObjectStore
from services.kit.process.service import App, Parts
from services.kit.rpc.table import Table

NAME = "events"
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


async def build(settings: Settings, parts: Parts, _stack: AsyncExitStack) -> App:
    """Build the service on `parts`; hears verdicts and keeps refused events from here on."""
    # Nothing is signed here: events that wait in the store are read by the executions service only.
    objects = ObjectStore.open(settings.objects_url, public_url="", signing_key="")
    await replace_former(parts.db, parts.bus)
    lanes = EventPublisher(parts.bus, objects, Limits.of(settings), sender=uuid.uuid4().hex)
    writer = LogWriter(parts.db, await make_ready(parts.bus, lanes.lost), parts.bus.mend)

    async def hear(verdicts: bytes) -> None:
        await lanes.heard(verdicts)
        await writer.heard(verdicts)

    # One subscription for both: what is for this process's callers is also for the log.
    await parts.bus.subscribe(VERDICTS, hear)
    await RefusedEventWriter(parts.db).listen(parts.bus)

    stall_detector = StallDetector()
    table = Table()
    table.bind(ADMIN_SERVICE, EventHandlers(lanes, stall_detector, settings.max_output_bytes))
    keeping = LogRetention(parts.db, parts.bus, objects, settings.event_log_days)
    missed = VerdictBackfill(parts.db, parts.bus)
    return App(
        table,
        services=SERVICE_NAMES,
        loops=[stall_detector.run, writer.run, missed.run, keeping.run],
        drain=[lanes.drain, writer.drain],
        checks={"the stream of events": lanes.check},
    )
