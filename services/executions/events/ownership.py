"""The ownership of a lane: one replica receives its direct batches, another takes over when that one is gone.

Order does not depend on it: the lane's cursor refuses what another replica has moved on from. It keeps the rows of a
lane in the cache of one replica.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from services.contracts.event_batches import EVENT_LANES, direct_subject_of
from services.executions.events.batches import EventBatchConsumer
from services.kit.db.session_lock import session_lock
from services.kit.errors import ServiceError
from services.kit.messaging.bus import Bus

log = logging.getLogger(__name__)

_KEY = 0x6C616E6500
_RETRY_SECONDS = 1.0


class LaneOwnership:
    """The loops by which a replica owns lanes."""

    def __init__(self, database_url: str, bus: Bus, consumer: EventBatchConsumer) -> None:
        self._database_url = database_url
        self._bus = bus
        self._consumer = consumer

    @property
    def loops(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """The loop of each lane: it owns the lane as soon as no other replica does, until cancelled."""
        return [partial(self._own, lane) for lane in range(EVENT_LANES)]

    async def _own(self, lane: int) -> None:
        while True:
            try:
                async with session_lock(self._database_url, _KEY + lane) as lock:
                    end = await self._bus.receive(direct_subject_of(lane), partial(self._consumer.apply_direct, lane))
                    try:
                        await lock.until_lost()
                    finally:
                        await end()
            except ServiceError as error:
                log.warning("lane %d is without this owner: %s", lane, error.message)
            await asyncio.sleep(_RETRY_SECONDS)
