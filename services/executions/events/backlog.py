"""Whether batches of a lane wait in the stream; until they are applied, no direct batch may overtake them."""

import asyncio
import math

from services.contracts.event_batches import BATCHES_STREAM, durable_of
from services.kit.messaging.bus import Bus

# A batch that was appended by any sender is seen within this time. Its callers receive their verdicts, or wait longer
# than this (the least `verdict_wait_seconds` of events), before they send the next event of the same execution.
FRESH_SECONDS = 1.0


class Backlog:
    """The stream's batches of one lane that are not applied yet."""

    def __init__(self, bus: Bus, lane: int) -> None:
        self._bus = bus
        self._durable = durable_of(lane)
        self._seen_empty_at = -math.inf

    def seen(self) -> None:
        """Note that there is a batch."""
        self._seen_empty_at = -math.inf

    async def is_empty(self) -> bool:
        """Return whether there was none within the last `FRESH_SECONDS`; raise Unavailable without NATS."""
        now = asyncio.get_running_loop().time()
        if now - self._seen_empty_at < FRESH_SECONDS:
            return True
        if await self._bus.backlog(BATCHES_STREAM, self._durable):
            return False
        self._seen_empty_at = now
        return True
