"""Retention of the event log: creates partitions for the next days and drops those that are too old.

Refused events and the objects of large events are deleted at the same age, and what the log of former releases had in
NATS. Replicas take turns; a second run changes nothing.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from services.contracts.event_batches import BATCHES_STREAM, LARGE_EVENTS_PATH
from services.events.ingest.streams import delete_former_log_streams
from services.events.store.log_partitions import delete_refused, drop_partitions, make_partitions
from services.kit.db.database import Database
from services.kit.errors import ServiceError
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore

log = logging.getLogger(__name__)

# Partitions are created days before they are needed, so an outage of days does no harm; dropping is never urgent.
_ROUND_SECONDS = 600.0
_DAYS_AHEAD = 3
_DAY = timedelta(days=1)


class LogRetention:
    """The loop that creates and drops partitions.

    Args:
        db: The database of the log.
        bus: The connection to NATS.
        objects: The store of large events.
        days: Age at which events are deleted; 0 is never.
    """

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, days: int) -> None:
        self._db = db
        self._bus = bus
        self._objects = objects
        self._days = days

    async def run(self) -> None:
        """Apply the retention every ten minutes until cancelled; retry later while a dependency is down."""
        while True:
            try:
                await self.apply(datetime.now(UTC))
            except ServiceError as error:
                log.warning("the event log is tidied up later: %s", error.message)
            await asyncio.sleep(_ROUND_SECONDS)

    async def apply(self, now: datetime) -> None:
        """Create and drop what is due at `now`."""
        await make_partitions(self._db, [(now + ahead * _DAY).date() for ahead in range(_DAYS_AHEAD + 1)])
        await delete_former_log_streams(self._bus)
        if not self._days:
            return
        before = now - self._days * _DAY
        dropped = await drop_partitions(self._db, before.date())
        refused = await delete_refused(self._db, before)
        # An event that is still to be applied needs its object, however old it is.
        oldest = await self._bus.oldest_message_time(BATCHES_STREAM)
        objects = await self._objects.delete_older(LARGE_EVENTS_PATH, min(before, oldest) if oldest else before)
        if dropped or refused or objects:
            days = [day.isoformat() for day in dropped]
            log.info("old events are gone", extra={"days": days, "refused": refused, "objects": objects})
