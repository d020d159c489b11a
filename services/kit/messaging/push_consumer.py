"""A push consumer: handles the messages of a subject strictly in order, one at a time across all replicas."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from services.kit.messaging.streams import ACK_WAIT_SECONDS, Delivery

log = logging.getLogger(__name__)

_PROGRESS_SECONDS = ACK_WAIT_SECONDS / 3
# Pauses before a failed message is handled again.
_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)


async def handle_message(message: Msg, handler: Callable[[Delivery], Awaitable[None]], durable: str) -> None:
    """Pass a message to `handler` until it returns, then acknowledge the message.

    When the handler raises, it is called again after a growing pause, and later messages wait: order matters more than
    progress. Progress is reported meanwhile, so that the server delivers the message to no other replica.
    """
    metadata = message.metadata
    headers = dict(message.headers or {})
    delivery = Delivery(message.subject, message.data, metadata.sequence.stream, metadata.timestamp, headers)
    with _reporting_progress(message):
        await _handle_until_done(handler, delivery, durable)
    with contextlib.suppress(NatsError):
        await message.ack()


@contextlib.contextmanager
def _reporting_progress(message: Msg) -> Iterator[None]:
    """Report progress on a message periodically until the block ends; a short block costs one timer."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None
    report: asyncio.Task[None] | None = None  # the only reference to the task

    async def report_progress() -> None:
        with contextlib.suppress(NatsError):
            await message.in_progress()

    def start_report() -> None:
        # A task for each: a loop could not be cancelled reliably, as the client drops cancellations.
        nonlocal timer, report
        timer = loop.call_later(_PROGRESS_SECONDS, start_report)
        report = loop.create_task(report_progress())

    timer = loop.call_later(_PROGRESS_SECONDS, start_report)
    try:
        yield
    finally:
        timer.cancel()


async def _handle_until_done(handler: Callable[[Delivery], Awaitable[None]], delivery: Delivery, durable: str) -> None:
    tries = 0
    while True:
        try:
            await handler(delivery)
        except Exception:
            wait = _RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)]
            tries += 1
            log.exception("message failed, again soon", extra={"consumer": durable, "sequence": delivery.sequence})
            await asyncio.sleep(wait)
        else:
            return
