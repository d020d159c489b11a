"""Keeps the event log in shape: partitions for the days to come, and an end for what is older than its days.

With the log go refused events and the objects in which large events travelled. Several replicas do it one after the
other, and doing it twice changes nothing.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from services.contracts.event_batches import WAITING_PLACES
from services.events.ingest.streams import BATCHES
from services.events.store.log_days import drop_days, forget_refused, make_days
from services.kit.db.database import Database
from services.kit.errors import ServiceError
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore

log = logging.getLogger(__name__)

# Partitions are made long before they are needed, so that an outage of days is no matter; dropping is never urgent.
_ROUND_SECONDS = 600.0
_DAYS_AHEAD = 3
_DAY = timedelta(days=1)


class LogRetention:
    """`days` is how long the log is kept; 0 is for ever."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, days: int) -> None:
        self._db = db
        self._bus = bus
        self._objects = objects
        self._days = days

    async def run(self) -> None:
        """Keep for ever; a part that is down is waited for."""
        while True:
            try:
                await self.keep(datetime.now(UTC))
            except ServiceError as error:
                log.warning("the event log is tidied up later: %s", error.message)
            await asyncio.sleep(_ROUND_SECONDS)

    async def keep(self, now: datetime) -> None:
        """Make and drop what is due at `now`."""
        await make_days(self._db, [(now + ahead * _DAY).date() for ahead in range(_DAYS_AHEAD + 1)])
        if not self._days:
            return
        before = now - self._days * _DAY
        dropped = await drop_days(self._db, before.date())
        refused = await forget_refused(self._db, before)
        # An event that is still to be applied needs its object, however old it is.
        oldest = await self._bus.oldest(BATCHES)
        objects = await self._objects.delete_older(WAITING_PLACES, min(before, oldest) if oldest else before)
        if dropped or refused or objects:
            days = [day.isoformat() for day in dropped]
            log.info("old events are gone", extra={"days": days, "refused": refused, "objects": objects})
