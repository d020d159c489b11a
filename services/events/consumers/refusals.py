"""Storage of the events that executions refused: their callers may have received OK before.

The announcement comes from the outbox of executions, so it arrives even when the process that received the event is
gone.
"""

import logging

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from services.contracts.event_batches import decode_refusal
from services.contracts.executions import EVENT_REFUSED
from services.events.store.refused_events import insert
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery

log = logging.getLogger(__name__)

DURABLE = "events-refusals"


class RefusedEventWriter:
    """The consumer of EVENT_REFUSED."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def listen(self, bus: Bus) -> None:
        """Store all refused events from now on; raise Unavailable when NATS cannot be reached."""
        stream = announcements_of(EVENT_REFUSED.owner)
        await bus.declare_stream(stream, own=False)
        await bus.consume(stream, EVENT_REFUSED.subject, DURABLE, self.store)

    async def store(self, delivery: Delivery) -> None:
        """Store one refused event, unless it is stored already; an announcement that cannot be read is logged."""
        # Raised, it would be delivered again without end, and hold up those behind it.
        try:
            refused = decode_refusal(Status.FromString(delivery.payload))
        except (DecodeError, InvalidArgument, ValueError, IndexError):
            log.exception("a refused event cannot be read", extra={"sequence": delivery.sequence})
            return
        async with self._db.autocommit() as connection:
            await insert(connection, refused)
