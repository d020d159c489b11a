"""The stream of batches and everybody who must hear of one, made ready before anything is appended.

The stream keeps a batch until each of its consumers is done with it, and those who come later get nothing of what was
there before. So whoever appends makes all of them first: the log's, and on behalf of executions, which may never have
run, those of the lanes.
"""

from collections.abc import Callable

from services.contracts.event_batches import (
    EVENT_LANES,
    LOG_DURABLE,
    STREAM_NAME,
    SUBJECTS,
    VERDICTS,
    VERDICTS_STREAM_NAME,
    durable_of,
    subject_of,
)
from services.events.store.locks import alone
from services.kit.db.database import Database
from services.kit.messaging.batch_consumer import BatchConsumer
from services.kit.messaging.bus import Bus, Stream
from services.kit.messaging.streams import fetched, one_after_the_other

BATCHES = Stream(STREAM_NAME, (SUBJECTS,), max_age=0, until_done=True)

# What the log may miss while it or its process is away: an hour of verdicts, or those of two hours at full load.
VERDICTS_KEPT_SECONDS = 3600.0
_VERDICTS_BYTES = 256 * 1024 * 1024
SAID = Stream(VERDICTS_STREAM_NAME, (VERDICTS,), max_age=VERDICTS_KEPT_SECONDS, max_bytes=_VERDICTS_BYTES, lossy=True)


async def replace_former(db: Database, bus: Bus) -> None:
    """Replace the stream of a release that had no log; nothing to do on any later start.

    Raises FailedPrecondition when messages wait in it. One replica at a time: the second to look must not take the new
    stream for the old one.
    """
    async with alone(db):
        await bus.renew(BATCHES)


async def make_ready(bus: Bus, lost: Callable[[], None] | None = None) -> BatchConsumer:
    """Make the streams and consumers that are missing, and keep them; answers the log's end of the batches.

    `lost` is called whenever the stream was gone, with the batches in it. Raises Unavailable.
    """
    lanes = [one_after_the_other(subject_of(lane), durable_of(lane)) for lane in range(EVENT_LANES)]
    await bus.ensure(BATCHES, [*lanes, fetched(SUBJECTS, LOG_DURABLE)], lost=lost)
    await bus.ensure(SAID)
    return await bus.pull(BATCHES, SUBJECTS, LOG_DURABLE)
