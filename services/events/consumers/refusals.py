"""Keeps events that the executions service refused: their callers may have been told OK already.

The fact comes from the outbox of executions, so it arrives even when the process that took the event is gone.
"""

import logging

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from services.contracts.event_batches import EVENT_REFUSED, read_refusal
from services.events.store.refused_events import insert
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument
from services.kit.messaging.bus import Bus, Delivery
from services.kit.messaging.outbox import announcements_of

log = logging.getLogger(__name__)

DURABLE = "events-refusals"


class RefusedEventWriter:
    """The listener of EVENT_REFUSED."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def listen(self, bus: Bus) -> None:
        """Keep every refused event from now on; raises Unavailable when NATS is not there."""
        stream = announcements_of(EVENT_REFUSED.owner)
        await bus.ensure(stream, own=False)
        await bus.consume(stream, EVENT_REFUSED.subject, DURABLE, self.keep)

    async def keep(self, delivery: Delivery) -> None:
        """Keep one refused event; keeping it again changes nothing. Others wait behind what cannot be read."""
        try:
            refused = read_refusal(Status.FromString(delivery.payload))
        except (DecodeError, InvalidArgument, ValueError, IndexError):
            log.exception("a refused event cannot be read", extra={"sequence": delivery.sequence})
            return
        async with self._db.read() as connection:
            await insert(connection, refused)
