"""Builds the events service, by hand, top to bottom; nothing else here makes parts."""

import uuid
from contextlib import AsyncExitStack

from flyteidl.service import admin_pb2

from services.events.config import Settings
from services.events.handlers.events import EventHandlers
from services.events.listeners.lanes import Lanes, Limits
from services.events.listeners.pulse import Pulse
from services.events.listeners.refusals import Refusals
from services.kit.objects import ObjectStore
from services.kit.process import App, Parts
from services.kit.rpc import Table

NAME = "events"
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


async def build(settings: Settings, parts: Parts, _stack: AsyncExitStack) -> App:
    """Build the service on `parts`; opens the inbox of verdicts and keeps refused events from here on."""
    # Nothing is signed here: events that wait in the store are read by the executions service only.
    objects = ObjectStore.open(settings.objects_url, public_url="", signing_key="")
    limits = Limits(
        verdict_wait=settings.verdict_wait_seconds,
        append_wait=settings.append_wait_seconds,
        lane_length=settings.lane_length,
        batch_events=settings.batch_events,
        batch_bytes=settings.batch_bytes,
        large_event_bytes=settings.large_event_bytes,
    )
    lanes = Lanes(parts.bus, objects, limits, sender=uuid.uuid4().hex)
    await lanes.listen()
    await Refusals(parts.db).listen(parts.bus)

    pulse = Pulse()
    table = Table()
    table.bind(ADMIN_SERVICE, EventHandlers(lanes, pulse, settings.max_output_bytes))
    return App(table, services=[ADMIN_SERVICE.full_name], loops=[pulse.run], drain=[lanes.drain])
