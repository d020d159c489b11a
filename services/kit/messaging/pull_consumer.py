"""A pull consumer: fetches messages of a stream in bursts, for work that is cheaper for many messages at once.

A burst costs one request for any number of messages, and no task per message. A message that is fetched and not
acknowledged is delivered again later, to any replica.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from services.kit.errors import Unavailable
from services.kit.messaging.streams import Delivery, request_messages

# A burst that the server has not ended by now never ends: the server is gone, or its last message was lost.
_BURST_SECONDS = 5.0
# Limit of a burst, unless a single message is larger; more would block the event loop for milliseconds.
_BURST_BYTES = 1024 * 1024
_NO_MESSAGES = "404"
_TOO_LARGE = "409"
_NO_RESPONDERS = "503"
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Fetched(Delivery):
    """A fetched message."""

    deliveries: int  # this one included
    reply: str  # the subject of its acknowledgement

    @property
    def redelivered(self) -> bool:
        """Whether it was delivered before."""
        return self.deliveries > 1


class PullConsumer:
    """One replica's access to a JetStream pull consumer. One fetch at a time."""

    def __init__(self, client: Client, stream: str, consumer: str) -> None:
        self._client = client
        self._stream = stream
        self._consumer = consumer
        self._inbox = client.new_inbox()
        self._burst = 0  # number of the current burst
        self._most = 0  # messages of the current burst at most
        self._messages: list[Msg] = []
        self._complete = asyncio.Event()
        self._status = ""

    async def open(self) -> None:
        """Subscribe to the inbox of fetched messages."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._receive)

    async def fetch(self, most: int, wait_seconds: float = 0.0) -> list[Fetched]:
        """Return the messages available now, `most` at most; raise Unavailable when the consumer does not respond.

        When there is none, wait for the next one for `wait_seconds`.
        """
        messages = await self._fetch(most, _BURST_BYTES)
        if not messages and self._status == _NO_MESSAGES and wait_seconds:
            messages = await self._fetch(1, None, wait_seconds)
        if not messages and self._status == _TOO_LARGE:
            messages = await self._fetch(1, None)
        if not messages and self._status in {"", _NO_RESPONDERS}:
            raise Unavailable("the stream's consumer does not answer")
        return list(map(_from_message, messages))

    async def acknowledge(self, fetched: Iterable[Fetched]) -> None:
        """Acknowledge these; a message whose acknowledgement is lost is delivered again."""
        with contextlib.suppress(NatsError):
            for message in fetched:
                await self._client.publish(message.reply)

    async def postpone(self, message: Fetched, seconds: float) -> None:
        """Let this be delivered again after `seconds`; later if the request for it is lost."""
        with contextlib.suppress(NatsError):
            delay = json.dumps({"delay": int(seconds * _NANOSECONDS)})
            await self._client.publish(message.reply, f"-NAK {delay}".encode())

    async def _fetch(self, most: int, max_bytes: int | None, wait_seconds: float = 0.0) -> list[Msg]:
        if not self._client.is_connected:
            # The client would send the request after reconnecting, and the messages would arrive after this burst.
            raise Unavailable("NATS cannot be reached")
        self._burst += 1
        self._most = most
        self._status = ""
        self._complete.clear()
        reply = f"{self._inbox}.{self._burst}"
        try:
            await request_messages(
                self._client,
                self._stream,
                self._consumer,
                reply,
                most=most,
                max_bytes=max_bytes,
                wait_seconds=wait_seconds,
            )
        except NatsError as error:
            raise Unavailable("NATS cannot be reached") from error
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds + _BURST_SECONDS):
                await self._complete.wait()
        messages, self._messages = self._messages, []
        return messages

    async def _receive(self, message: Msg) -> None:
        if message.reply:
            self._messages.append(message)
            if len(self._messages) >= self._most:
                self._complete.set()
        elif message.subject == f"{self._inbox}.{self._burst}":
            # A message without a reply subject is the server's status, the end of this burst.
            self._status = (message.headers or {}).get("Status", "")
            self._complete.set()


def _from_message(message: Msg) -> Fetched:
    metadata = message.metadata
    return Fetched(
        message.subject,
        message.data,
        metadata.sequence.stream,
        metadata.timestamp,
        message.headers or {},
        deliveries=metadata.num_delivered,
        reply=message.reply,
    )
