"""The loop of the jobs that end executions after a time, the patience."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from services.kit.errors import ServiceError

log = logging.getLogger(__name__)

# Part of the patience between two rounds: no execution waits much longer than the patience.
_PAUSE_FRACTION = 0.25
_SHORTEST_PAUSE_SECONDS = 1.0


async def run_rounds(
    work: Callable[[], Awaitable[None]], *, patience: timedelta, longest_pause_seconds: float, failure: str
) -> None:
    """Run rounds until cancelled; after any error, the next round tries again.

    Args:
        work: One round.
        patience: The time after which the job ends an execution.
        longest_pause_seconds: The longest pause between two rounds.
        failure: The message in the log when a round has failed.
    """
    pause = min(max(patience.total_seconds() * _PAUSE_FRACTION, _SHORTEST_PAUSE_SECONDS), longest_pause_seconds)
    while True:
        try:
            await work()
        except ServiceError as error:
            log.warning("%s: %s", failure, error.message)
        except Exception:
            log.exception(failure)
        await asyncio.sleep(pause)
