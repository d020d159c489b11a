"""Facts leave a service through its outbox: written with the change they report, published in order after commit.

`put` runs inside the transaction of the change. The `Relay` of one replica at a time (whoever holds the advisory lock)
publishes what is waiting, oldest first, and deletes it once the stream has it; a fact may be published twice after a
crash and carries an id by which the stream drops the copy.
"""

import asyncio
import logging

from sqlalchemy import BigInteger, Column, DateTime, Identity, LargeBinary, MetaData, String, Table, func

from services.kit.db.database import Connection, Database
from services.kit.errors import ServiceError
from services.kit.messaging.bus import Bus, Stream, StreamMissing
from services.kit.messaging.messages import Announcement, Said
from services.kit.process.telemetry import OUTBOX_WAITING

log = logging.getLogger(__name__)

# A consumer that was away for less than this misses nothing.
FACTS_KEPT_SECONDS = 7 * 24 * 3600.0
# One round trip to the database fetches this many; the rest follows at once.
_BATCH = 100
# The relay is woken by the process's own commits; this is for facts whose process died before it could publish them.
_IDLE_SECONDS = 1.0
_RELAY_LOCK = 0x6F7574626F78

_PUT = "INSERT INTO outbox (subject, payload) VALUES (%(subject)s, %(payload)b)"
_LOCK = "SELECT pg_try_advisory_xact_lock(%(key)s)"
# The time makes the message id one of its own in a database that was made anew and counts from one again.
_WAITING = """
SELECT id, subject, payload, id || '-' || extract(epoch FROM created_at) FROM outbox ORDER BY id LIMIT %(limit)s
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY(%(ids)s)"


def outbox_table(metadata: MetaData) -> Table:
    """The table that `put` and the relay use, for a service's own metadata."""
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("subject", String, nullable=False),
        Column("payload", LargeBinary, nullable=False),
    )


def announcements_of(owner: str) -> Stream:
    """The stream that keeps the facts of the service `owner`."""
    return Stream(f"FLYTE_{owner.upper()}", (f"flyte.{owner}.>",), FACTS_KEPT_SECONDS)


class Outbox:
    """Takes facts of one service; wakes its relay."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        """Set by whoever has written a fact into the table with a statement of its own, to wake the relay."""

    async def put(self, connection: Connection, fact: Announcement[Said], message: Said) -> None:
        """Keep `message` for publication, within the transaction open on `connection`."""
        await connection.execute(_PUT, {"subject": fact.subject, "payload": message.SerializeToString()})
        self.filled.set()


class Relay:
    """Publishes what is in the outbox of the service `owner`, in order."""

    def __init__(self, owner: str, db: Database, bus: Bus, outbox: Outbox) -> None:
        self._owner = owner
        self._db = db
        self._bus = bus
        self._outbox = outbox

    async def run(self) -> None:
        """Publish for ever; a part that is down is waited for."""
        ready = False
        while True:
            try:
                if not ready:
                    await self._bus.ensure(announcements_of(self._owner))
                    ready = True
                while await self.publish_waiting() == _BATCH:
                    pass
            except ServiceError as error:
                log.warning("facts wait: %s", error.message)
                ready = ready and not isinstance(error, StreamMissing)
                await asyncio.sleep(_IDLE_SECONDS)
                continue
            await self._woken()

    async def publish_waiting(self) -> int:
        """Publish and delete one batch; answers how many. Raises Unavailable with the batch still in place."""
        async with self._db.transaction() as connection:
            cursor = await connection.execute(_LOCK, {"key": _RELAY_LOCK})
            held = await cursor.fetchone()
            if held is None or not held[0]:
                return 0
            cursor = await connection.execute(_WAITING, {"limit": _BATCH})
            rows = await cursor.fetchall()
            OUTBOX_WAITING.set(len(rows))
            for _, subject, payload, message_id in rows:
                await self._bus.append(subject, payload, f"{self._owner}-{message_id}")
            if rows:
                await connection.execute(_DELETE, {"ids": [row[0] for row in rows]})
        return len(rows)

    async def _woken(self) -> None:
        try:
            await asyncio.wait_for(self._outbox.filled.wait(), _IDLE_SECONDS)
        except TimeoutError:
            return
        self._outbox.filled.clear()
