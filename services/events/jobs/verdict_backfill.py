"""Backfill of verdicts that the log writer missed: its process restarted, or its database was down for long.

The stream of verdicts stores them for an hour. It is read only when the log has batches without verdicts, from the
oldest of them on.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from services.contracts.event_batches import framed_id
from services.events.ingest.streams import VERDICTS_KEPT_SECONDS, VERDICTS_STREAM
from services.events.store.event_log import add_verdicts, batches_without_verdicts
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, ServiceError
from services.kit.messaging.bus import Bus

log = logging.getLogger(__name__)

# A restarted process receives within half a minute what the former one had fetched; the first run comes after that.
_FIRST_SECONDS = 40.0
# While executions is down there is nothing to find, and its later verdicts are received directly: each run that finds
# nothing doubles the wait.
_LONGEST_SECONDS = 900.0
# Batches completed by one run; the next one takes the rest.
_AT_ONCE = 50_000


class VerdictBackfill:
    """The loop that completes batches; replicas that run it at the same time only repeat each other."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus

    async def run(self) -> None:
        """Complete batches until cancelled; retry while the database or NATS is down."""
        wait = _FIRST_SECONDS
        while True:
            await asyncio.sleep(wait)
            try:
                in_vain = await self.backfill() == 0
            except ServiceError as error:
                log.warning("verdicts for the event log are looked for later: %s", error.message)
                in_vain = True
            wait = min(2 * wait, _LONGEST_SECONDS) if in_vain else _FIRST_SECONDS

    async def backfill(self) -> int:
        """Add the verdicts that are in the stream and return the number of completed batches."""
        since = datetime.now(UTC) - timedelta(seconds=VERDICTS_KEPT_SECONDS)
        async with self._db.read() as connection:
            missing = await batches_without_verdicts(connection, since, _AT_ONCE)
        completed = 0
        if not missing:
            return completed
        async for burst in self._bus.read(VERDICTS_STREAM, min(missing.values())):
            verdicts = []
            for message in burst:
                identifier = _identifier(message.payload)
                if received_at := missing.get(identifier):
                    verdicts.append((received_at, identifier, message.payload))
            if verdicts:
                async with self._db.autocommit() as connection:
                    completed += await add_verdicts(connection, verdicts)
        return completed


def _identifier(verdicts: bytes) -> str:
    try:
        return framed_id(verdicts)
    except InvalidArgument:
        return ""
