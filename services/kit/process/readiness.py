"""Whether a process would do now what it is for: asked by probes, by `status`, and by whoever can reach its port."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from services.kit.errors import ServiceError

log = logging.getLogger(__name__)

# Raises a ServiceError that says what is wrong.
Check = Callable[[], Awaitable[None]]

# An answer is good for this long: some checks write, and anybody on the machine may ask as often as he likes.
_FRESH_SECONDS = 1.0
# Longer than an append that is not acknowledged, shorter than probes are patient.
_PATIENCE_SECONDS = 2.0


class Readiness:
    """Asks all checks side by side, once for everybody who wants to know at a time; each is named by what it asks."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._asking: asyncio.Task[str] | None = None
        self._asked_at = 0.0

    async def __call__(self) -> str:
        """Answer what is wrong, nothing when the process is ready."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked_at > _FRESH_SECONDS):
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> str:
        wrong = await asyncio.gather(*(_wrong(what, check) for what, check in self._checks.items()))
        return "; ".join(dict.fromkeys(filter(None, wrong)))


async def _wrong(what: str, check: Check) -> str:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await check()
    except ServiceError as error:
        return error.message
    except TimeoutError:
        return f"{what} does not answer in time"
    except Exception:
        log.exception("a readiness check failed", extra={"asked": what})
        return f"{what} cannot be asked"
    return ""
