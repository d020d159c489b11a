"""The stall detector: notices that this process did not run, because it was stopped, swapped out, or starved.

The requests that it reads right afterwards may be outdated. Their callers have given up, have sent the event to another
replica and others after it; applied now it would take a node or a task back to a former phase. So the service refuses
events for a moment. Callers that still wait retry at once, as engines do.
"""

import asyncio
import time
from collections.abc import Callable

from services.kit.errors import Unavailable

_BEAT_SECONDS = 1.0
# Well below the 15 s after which engines give up a call: a process that has not stalled for this long reads a request
# while its engine still waits.
STALL_SECONDS = 5.0
# Enough to read all that is in the sockets; the retries of an engine's call take longer together.
REFUSAL_SECONDS = 1.0


class StallDetector:
    """A heartbeat of the process; a gap in it is a stall."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._trusted_from = self._last

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            self.beat()

    def beat(self) -> None:
        """Record that the process runs, and whether it has stalled since the last beat."""
        now = self._clock()
        if now - self._last > STALL_SECONDS:
            self._trusted_from = now + REFUSAL_SECONDS
        self._last = now

    def check(self) -> None:
        """Raise Unavailable while requests may be outdated."""
        if self._clock() - self._last > STALL_SECONDS:
            self.beat()
        if self._clock() < self._trusted_from:
            raise Unavailable("the service stood still and does not know how old the event is")
