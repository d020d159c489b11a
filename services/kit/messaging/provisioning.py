"""The declared streams and consumers of a process: created at its start, and again whenever they are missing.

An operator may delete one, or its server may lose its disk, and NATS does not report that. So each is checked
periodically by a small request, and at once by code that misses one.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig
from nats.js.client import JetStreamContext

from services.kit.messaging import streams
from services.kit.messaging.messages import Stream

log = logging.getLogger(__name__)

# Pause between two checks, each a small request for every stream and consumer: a missing one is back soon after.
CHECK_SECONDS = 2.0


@dataclass
class _DeclaredStream:
    stream: Stream
    own: bool = False
    on_lost: Callable[[], None] | None = None
    consumers: dict[str, ConsumerConfig] = field(default_factory=dict)
    created: dict[str, datetime] = field(default_factory=dict)  # when each consumer was created


class StreamProvisioner:
    """The declared streams and consumers of one process. Its methods raise nats-py's errors, which `bus` translates."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._streams: dict[str, _DeclaredStream] = {}
        self._lock = asyncio.Lock()

    async def declare_stream(
        self,
        stream: Stream,
        consumers: Sequence[ConsumerConfig] = (),
        *,
        own: bool = True,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """Declare the stream and its consumers, and create what is missing.

        Args:
            stream: the stream.
            consumers: durable consumers of the stream.
            own: this process's service owns the stream: it updates the configuration and restores the stream later.
            on_lost: called whenever messages may be lost later: the stream was missing, or it has interest retention
                and a consumer was.
        """
        declared = self._streams.setdefault(stream.name, _DeclaredStream(stream))
        declared.own |= own
        declared.on_lost = on_lost or declared.on_lost
        declared.consumers |= {str(config.durable_name): config for config in consumers}
        await self._create(declared)

    async def declare_consumer(self, stream: Stream, config: ConsumerConfig) -> None:
        """Declare the consumer, and create it when it is missing."""
        declared = self._streams.setdefault(stream.name, _DeclaredStream(stream))
        declared.consumers[str(config.durable_name)] = config
        await streams.create_missing_consumer(self._js, stream, config)

    async def create_missing(self) -> None:
        """Create declared streams and consumers that are missing; raise the first failure after trying all."""
        failures: list[NatsError] = []
        async with self._lock:
            for declared in list(self._streams.values()):
                try:
                    await self._restore(declared)
                except NatsError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    async def _restore(self, declared: _DeclaredStream) -> None:
        if not declared.own:
            for config in list(declared.consumers.values()):
                await streams.create_missing_consumer(self._js, declared.stream, config)
        elif await self._create(declared):
            log.error("a stream was missing, with messages perhaps", extra={"stream": declared.stream.name})
            if declared.on_lost:
                declared.on_lost()

    async def _create(self, declared: _DeclaredStream) -> bool:
        """Create what is missing; return whether messages may be lost."""
        stream = declared.stream
        lost = await streams.create_missing(self._js, stream)
        for durable, config in list(declared.consumers.items()):
            created = await streams.create_missing_consumer(self._js, stream, config)
            # Another process may have created it again. Meanwhile the stream stored no message for it.
            lost |= stream.interest_retention and declared.created.get(durable, created) != created
            declared.created[durable] = created
        if declared.own:
            await streams.update_config(self._js, stream)
        return lost
