"""Waiting for a condition, with a time limit."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

_POLL_SECONDS = 0.01
# A killed process is back within half a minute, also on a busy machine.
_AVAILABLE_SECONDS = 60.0

Response = TypeVar("Response")


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return as soon as `condition` holds; raise TimeoutError when it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():  # the state is another process's, which sends no event
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        await asyncio.sleep(_POLL_SECONDS)


async def once_available(call: Callable[[], Awaitable[Response]], refusal: str = "") -> Response:
    """Retry `call` while it fails with UNAVAILABLE, for at most a minute, as Flyte's clients do.

    Args:
        call: Starts one attempt.
        refusal: What the error's text must contain for another attempt.

    Returns:
        The reply of the attempt that succeeded.

    Raises:
        grpc.aio.AioRpcError: For any other failure, and for the last UNAVAILABLE.
    """
    end = time.monotonic() + _AVAILABLE_SECONDS
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            text = error.details() or ""
            if error.code() is not grpc.StatusCode.UNAVAILABLE or refusal not in text or time.monotonic() > end:
                raise
        await asyncio.sleep(_POLL_SECONDS)
