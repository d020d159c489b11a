"""Waiting for something to become true, with an end."""

import asyncio
import time
from collections.abc import Callable

_POLL_SECONDS = 0.01


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return as soon as `condition` holds; raises TimeoutError when it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():  # the condition is of another process and sends no event
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        await asyncio.sleep(_POLL_SECONDS)
