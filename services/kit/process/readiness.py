"""The readiness of a process, for probes, for the sandbox's `status` and for any client that can reach its port."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from services.kit.errors import ServiceError

log = logging.getLogger(__name__)

# Raises a ServiceError with the problem.
Check = Callable[[], Awaitable[None]]

# How long a result is valid: some checks write, and any client on the machine may send many requests.
_CACHE_SECONDS = 1.0
# Longer than the timeout of an append. A probe that waits less, as the sandbox's, finds the process not ready when a
# check is slow.
_CHECK_SECONDS = 2.0


class Readiness:
    """Runs all checks concurrently, once for all concurrent callers.

    Args:
        checks: checks by the name of what they check, for messages.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._running: asyncio.Task[str] | None = None
        self._started_at = 0.0

    async def __call__(self) -> str:
        """Return the problems, empty when the process is ready."""
        now = asyncio.get_running_loop().time()
        if self._running is None or (self._running.done() and now - self._started_at > _CACHE_SECONDS):
            self._started_at = now
            self._running = asyncio.create_task(self._run_checks())
        return await asyncio.shield(self._running)

    async def _run_checks(self) -> str:
        problems = await asyncio.gather(*(_problem(what, check) for what, check in self._checks.items()))
        return "; ".join(dict.fromkeys(filter(None, problems)))


async def _problem(what: str, check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await check()
    except ServiceError as error:
        return error.message
    except TimeoutError:
        return f"{what} does not answer in time"
    except Exception:
        log.exception("a readiness check failed", extra={"asked": what})
        return f"{what} cannot be asked"
    return ""
