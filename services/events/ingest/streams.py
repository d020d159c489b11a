"""The streams of batches and verdicts with their consumers, created before anything is appended.

The stream stores a batch until each of its consumers has acknowledged it; a consumer that is created later receives
nothing older. So the process that appends creates all of them first: the log's, and those of the lanes on behalf of
executions, which may never have run.
"""

from collections.abc import Callable

from services.contracts.event_batches import (
    BATCHES_STREAM,
    EVENT_LANES,
    LOG_DURABLE,
    SUBJECTS,
    VERDICT_SUBJECTS,
    VERDICTS_STREAM_NAME,
    durable_of,
    subject_of,
)
from services.events.store.locks import exclusive_transaction
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.kit.messaging.messages import Stream
from services.kit.messaging.pull_consumer import PullConsumer
from services.kit.messaging.streams import pull_consumer_config, push_consumer_config

# Verdicts that the log writer may miss and still find: those of an hour, or of two hours at full load.
VERDICTS_KEPT_SECONDS = 3600.0
_VERDICTS_BYTES = 256 * 1024 * 1024
VERDICTS_STREAM = Stream(
    VERDICTS_STREAM_NAME,
    (VERDICT_SUBJECTS,),
    max_age=VERDICTS_KEPT_SECONDS,
    max_bytes=_VERDICTS_BYTES,
    async_persistence=True,
)


async def replace_former_batches_stream(db: Database, bus: Bus) -> None:
    """Replace the stream of a release that had no log; do nothing on later starts.

    Raises FailedPrecondition when messages wait in it. One replica at a time: the second one must not take the new
    stream for the old one.
    """
    async with exclusive_transaction(db):
        await bus.replace_work_queue_stream(BATCHES_STREAM)


async def declare_streams(bus: Bus, on_lost: Callable[[], None] | None = None) -> None:
    """Create the streams and consumers that are missing, now and whenever they are gone.

    Args:
        bus: The connection to NATS.
        on_lost: Called when the stream of batches was gone, with the batches in it.

    Raises:
        Unavailable: NATS cannot be reached.
    """
    lanes = [push_consumer_config(subject_of(lane), durable_of(lane)) for lane in range(EVENT_LANES)]
    await bus.declare_stream(BATCHES_STREAM, [*lanes, pull_consumer_config(SUBJECTS, LOG_DURABLE)], on_lost=on_lost)
    await bus.declare_stream(VERDICTS_STREAM)


async def log_consumer(bus: Bus) -> PullConsumer:
    """Return the event log's consumer of batches, which `declare_streams` has created; raises Unavailable."""
    return await bus.pull_consumer(BATCHES_STREAM, SUBJECTS, LOG_DURABLE)
