"""Notices that this process stood still: stopped, swapped out, or starved.

What it reads from its connections right afterwards may be old. Their callers have given up, have sent the event to
another replica and others after it; recorded now it would take a node or a task back to a former phase. So for a moment
it takes no events. Whoever does still wait tries again at once, as engines do.
"""

import asyncio
import time
from collections.abc import Callable

from services.kit.errors import Unavailable

_BEAT_SECONDS = 1.0
# Well below the 15 s after which engines give a call up, so that no call of theirs is older when nothing was noticed.
STOOD_STILL_SECONDS = 5.0
# Time to read all that lies in the sockets; an engine's tries of one call take longer together.
DOUBT_SECONDS = 1.0


class StallDetector:
    """Beats while the process runs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._trusted_from = self._last

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            self.beat()

    def beat(self) -> None:
        """Note that the process runs, and whether it has stood still since it was last noted."""
        now = self._clock()
        if now - self._last > STOOD_STILL_SECONDS:
            self._trusted_from = now + DOUBT_SECONDS
        self._last = now

    def check(self) -> None:
        """Raise Unavailable while what arrives may be old."""
        if self._clock() - self._last > STOOD_STILL_SECONDS:
            self.beat()
        if self._clock() < self._trusted_from:
            raise Unavailable("the service stood still and does not know how old the event is")
