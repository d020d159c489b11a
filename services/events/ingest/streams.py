"""The stream of batches with its consumers, created before anything is appended.

The stream stores a batch until its consumer has acknowledged it; a consumer that is created later receives nothing
older. So the process that appends creates those of the lanes first, on behalf of executions, which may never have run.
"""

from collections.abc import Callable

from services.contracts.event_batches import BATCHES_STREAM, EVENT_LANES, durable_of, subject_of
from services.events.store.locks import exclusive_transaction
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.kit.messaging.streams import push_consumer_config

# Of former releases, whose log read the stream of batches, and a stream of verdicts.
FORMER_LOG_DURABLE = "events-log"
FORMER_VERDICTS_STREAM = "EVENT_VERDICTS"


async def replace_former_batches_stream(db: Database, bus: Bus) -> None:
    """Replace the stream of a release that had no log; do nothing on later starts.

    Raises FailedPrecondition when messages wait in it. One replica at a time: the second one must not take the new
    stream for the old one.
    """
    async with exclusive_transaction(db):
        await bus.replace_work_queue_stream(BATCHES_STREAM)


async def declare_streams(bus: Bus, on_lost: Callable[[], None] | None = None) -> None:
    """Create the stream and consumers that are missing, now and whenever they are gone.

    Args:
        bus: The connection to NATS.
        on_lost: Called when batches in the stream may be lost: it was gone, or the consumer of a lane was.

    Raises:
        Unavailable: NATS cannot be reached.
    """
    lanes = [push_consumer_config(subject_of(lane), durable_of(lane)) for lane in range(EVENT_LANES)]
    await bus.declare_stream(BATCHES_STREAM, lanes, on_lost=on_lost)


async def delete_former_log_streams(bus: Bus) -> None:
    """Delete the former consumer of batches, for which the stream would store all of them, and the stream of verdicts.

    A replica of the release that has them creates them again while it runs, so this is repeated (`LogRetention`).
    Raises Unavailable.
    """
    await bus.delete_consumer(BATCHES_STREAM.name, FORMER_LOG_DURABLE)
    await bus.delete_stream(FORMER_VERDICTS_STREAM)
