"""Completes batches whose verdicts the log writer did not hear: its process restarted, or its database was long away.

The stream of verdicts keeps them for an hour. It is read only when the log has such batches, from the
oldest of them on.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from services.contracts.event_batches import framed_id
from services.events.ingest.streams import SAID, VERDICTS_KEPT_SECONDS
from services.events.store.event_log import complete, unanswered
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, ServiceError
from services.kit.messaging.bus import Bus

log = logging.getLogger(__name__)

# A restarted process gets what the former one had in hand within half a minute; then is the time for the first look.
_FIRST_SECONDS = 40.0
# While executions is away looking finds nothing, and what it says later is heard: each time in vain doubles the wait.
_LONGEST_SECONDS = 900.0
# Batches completed by one look; the next one takes the rest.
_AT_ONCE = 50_000


class VerdictBackfill:
    """Looks for them now and then; replicas that look at once only repeat each other."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus

    async def run(self) -> None:
        """Look for ever; a part that is down is waited for."""
        wait = _FIRST_SECONDS
        while True:
            await asyncio.sleep(wait)
            try:
                in_vain = await self.look() == 0
            except ServiceError as error:
                log.warning("verdicts for the event log are looked for later: %s", error.message)
                in_vain = True
            wait = min(2 * wait, _LONGEST_SECONDS) if in_vain else _FIRST_SECONDS

    async def look(self) -> int:
        """Complete what can be completed; answers how many batches were."""
        since = datetime.now(UTC) - timedelta(seconds=VERDICTS_KEPT_SECONDS)
        async with self._db.read() as connection:
            missing = await unanswered(connection, since, _AT_ONCE)
        completed = 0
        if not missing:
            return completed
        async for burst in self._bus.read(SAID, min(missing.values())):
            found = []
            for message in burst:
                identifier = _identifier(message.payload)
                if received_at := missing.get(identifier):
                    found.append((received_at, identifier, message.payload))
            if found:
                async with self._db.read() as connection:
                    completed += await complete(connection, found)
        return completed


def _identifier(verdicts: bytes) -> str:
    try:
        return framed_id(verdicts)
    except InvalidArgument:
        return ""
