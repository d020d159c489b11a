"""The streams and consumers that this process works with: made at its start, and again whenever they are gone.

Somebody may delete one by hand, or its server may have lost its disk. Nobody is told; so it is looked after now and
then, which costs a small question for each, and at once by whoever finds one missing.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig
from nats.js.client import JetStreamContext

from services.kit.messaging import streams
from services.kit.messaging.streams import Stream

log = logging.getLogger(__name__)

# Shorter than what holds a batch of events that nobody has answered (`log_writer`).
LOOK_SECONDS = 2.0


@dataclass
class _Kept:
    stream: Stream
    own: bool = False
    lost: Callable[[], None] | None = None
    consumers: dict[str, ConsumerConfig] = field(default_factory=dict)


class StreamProvisioner:
    """What one process needs of JetStream. Failures are those of nats-py; `bus` translates them."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._kept: dict[str, _Kept] = {}
        self._mending = asyncio.Lock()

    async def ensure(
        self,
        stream: Stream,
        consumers: Sequence[ConsumerConfig] = (),
        *,
        own: bool = True,
        lost: Callable[[], None] | None = None,
    ) -> None:
        """Make the stream and its consumers unless they are there, and keep them.

        Only its owner brings it to its shape, and makes it again later; `lost` is called whenever that was needed.
        """
        kept = self._kept.setdefault(stream.name, _Kept(stream))
        kept.own |= own
        kept.lost = lost or kept.lost
        kept.consumers |= {str(config.durable_name): config for config in consumers}
        await self._make(kept)

    async def ensure_consumer(self, stream: Stream, config: ConsumerConfig) -> None:
        """Make the consumer unless it is there, and keep it."""
        kept = self._kept.setdefault(stream.name, _Kept(stream))
        kept.consumers[str(config.durable_name)] = config
        await streams.ensure_consumer(self._js, stream, config)

    async def mend(self) -> None:
        """Make again what is not there any more; raises the first failure when all has been tried."""
        failures: list[NatsError] = []
        async with self._mending:
            for kept in list(self._kept.values()):
                try:
                    await self._mend(kept)
                except NatsError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    async def _mend(self, kept: _Kept) -> None:
        if not kept.own:
            for config in list(kept.consumers.values()):
                await streams.ensure_consumer(self._js, kept.stream, config)
        elif await self._make(kept):
            log.error("a stream was gone and is made anew", extra={"stream": kept.stream.name})
            if kept.lost:
                kept.lost()

    async def _make(self, kept: _Kept) -> bool:
        missing = await streams.ensure(self._js, kept.stream, list(kept.consumers.values()))
        if kept.own:
            await streams.shape(self._js, kept.stream)
        return missing
