"""Fetching messages of a stream in bursts: for work that is cheaper done for many messages at once.

A burst costs one request, however many messages answer it, and no task a message. What was fetched and is not done
comes again after a while, to any replica.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from services.kit.errors import Unavailable
from services.kit.messaging.streams import Delivery, request_messages

# A burst that the server has not ended by now never will be: it went away, or its last word was lost.
_PATIENCE_SECONDS = 5.0
# Of one burst, unless a single message is larger; more would keep the event loop from calls for milliseconds.
_BURST_BYTES = 1024 * 1024
_TOO_LARGE = "409"
_NO_RESPONDERS = "503"


@dataclass(frozen=True, kw_only=True)
class Fetched(Delivery):
    """A message that was fetched."""

    redelivered: bool
    reply: str  # the server's address for "done"


class BatchConsumer:
    """One replica's hand in the messages of a consumer. One fetch at a time."""

    def __init__(self, client: Client, stream: str, consumer: str) -> None:
        self._client = client
        self._stream = stream
        self._consumer = consumer
        self._inbox = client.new_inbox()
        self._burst = 0
        self._most = 0
        self._messages: list[Msg] = []
        self._over = asyncio.Event()
        self._status = ""
        self.more = False
        """Whether the last burst ended because it was large enough."""

    async def open(self) -> None:
        """Open the inbox that fetched messages come to."""
        self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._receive)

    async def close(self) -> None:
        """Close the inbox; what comes late comes again elsewhere."""
        with contextlib.suppress(NatsError):
            await self._subscription.unsubscribe()

    async def fetch(self, most: int) -> list[Fetched]:
        """What is there now, `most` messages at most; raises Unavailable when the consumer does not answer."""
        messages = await self._fetch(most, _BURST_BYTES)
        if not messages and self._status == _TOO_LARGE:
            messages = await self._fetch(1, None)
        if not messages and self._status in {"", _NO_RESPONDERS}:
            raise Unavailable("the stream's consumer does not answer")
        self.more = self._status in {"", _TOO_LARGE}
        return list(map(_fetched, messages))

    async def done(self, fetched: Iterable[Fetched]) -> None:
        """Let the stream forget these; a message whose word is lost comes again."""
        with contextlib.suppress(NatsError):
            for message in fetched:
                await self._client.publish(message.reply)

    async def _fetch(self, most: int, max_bytes: int | None) -> list[Msg]:
        if not self._client.is_connected:
            # What is sent now would be answered late, to a burst that nobody waits for any more.
            raise Unavailable("NATS cannot be reached")
        self._burst += 1
        self._most = most
        self._status = ""
        self._over.clear()
        reply = f"{self._inbox}.{self._burst}"
        try:
            await request_messages(self._client, self._stream, self._consumer, reply, most=most, max_bytes=max_bytes)
        except NatsError as error:
            raise Unavailable("NATS cannot be reached") from error
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), _PATIENCE_SECONDS)
        messages, self._messages = self._messages, []
        return messages

    async def _receive(self, message: Msg) -> None:
        if message.reply:
            self._messages.append(message)
            if len(self._messages) >= self._most:
                self._over.set()
        elif message.subject == f"{self._inbox}.{self._burst}":
            # Without an address for "done" it is the server's last word on this burst.
            self._status = (message.headers or {}).get("Status", "")
            self._over.set()


def _fetched(message: Msg) -> Fetched:
    about = message.metadata
    return Fetched(
        message.subject,
        message.data,
        about.sequence.stream,
        about.timestamp,
        message.headers or {},
        redelivered=about.num_delivered > 1,
        reply=message.reply,
    )
