"""The outbox of a service: announcements are stored with the change that they report, and published after commit.

`put` runs in the transaction of the change. The `Relay` of one replica at a time, the one with the advisory lock,
publishes the stored announcements in order and deletes each once the stream has acknowledged it. After a crash one may
be published twice; the stream drops the copy by its message id.
"""

import asyncio
import logging

from services.kit.db.database import Connection, Database, after_commit
from services.kit.errors import ServiceError
from services.kit.messaging.bus import Bus, StreamMissing
from services.kit.messaging.messages import Announcement, Payload, Stream
from services.kit.process.telemetry import OUTBOX_WAITING

log = logging.getLogger(__name__)

# A consumer that is down for less than this misses nothing.
ANNOUNCEMENTS_KEPT_SECONDS = 7 * 24 * 3600.0
# Announcements per read of the database; further ones follow at once.
_MOST_READ = 100
# A commit of this process wakes the relay. Announcements of other processes, which may have died before publishing, are
# found at this interval.
_IDLE_SECONDS = 5.0
# Pause after a failure, and while the relay of another replica publishes, which may have read before the last commit.
_RETRY_SECONDS = 1.0
_RELAY_LOCK = 0x6F7574626F78

_ANY = "SELECT EXISTS (SELECT FROM outbox)"
_PUT = "INSERT INTO outbox (subject, payload) VALUES (%(subject)s, %(payload)b)"
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%(key)s)"
# With the time the message id stays unique when the database is created again and counts from one.
_WAITING = """
SELECT id, subject, payload, id || '-' || extract(epoch FROM created_at) FROM outbox ORDER BY id LIMIT %(limit)s
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY(%(ids)s)"


def announcements_of(owner: str) -> Stream:
    """Return the stream of the announcements of the service `owner`."""
    return Stream(f"FLYTE_{owner.upper()}", (f"flyte.{owner}.>",), ANNOUNCEMENTS_KEPT_SECONDS)


def announcement_row(announcement: Announcement[Payload], message: Payload) -> dict[str, object]:
    """Return `subject` and `payload` of a row of the outbox, for a statement that inserts it with its change."""
    return {"subject": announcement.subject, "payload": message.SerializeToString()}


class Outbox:
    """Stores announcements of one service, and wakes its relay."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        """Wakes the relay. Code that inserts into the table by a statement of its own sets it after the commit."""

    async def put(self, connection: Connection, announcement: Announcement[Payload], message: Payload) -> None:
        """Store `message` for publication, in the open transaction of `connection`, whose commit wakes the relay."""
        await connection.execute(_PUT, announcement_row(announcement, message))
        after_commit(connection, self.filled.set)


class Relay:
    """Publishes the outbox of the service `owner`, in order."""

    def __init__(self, owner: str, db: Database, bus: Bus, outbox: Outbox) -> None:
        self._owner = owner
        self._db = db
        self._bus = bus
        self._outbox = outbox
        self._pause = _IDLE_SECONDS

    async def run(self) -> None:
        """Publish until cancelled; wait while the database or NATS is down."""
        ready = woken = False
        while True:
            try:
                if not ready:
                    await self._bus.declare_stream(announcements_of(self._owner))
                    ready = True
                if woken or await self._any_waiting():
                    while await self.publish_waiting() == _MOST_READ:
                        pass
            except ServiceError as error:
                log.warning("announcements wait: %s", error.message)
                ready = ready and not isinstance(error, StreamMissing)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            woken = await self._wait()

    async def publish_waiting(self) -> int:
        """Publish and delete waiting announcements, 100 at most; return their number.

        Raises:
            Unavailable: The announcements are still stored.
        """
        async with self._db.transaction() as connection:
            cursor = await connection.execute(_TRY_LOCK, {"key": _RELAY_LOCK})
            lock = await cursor.fetchone()
            if lock is None or not lock[0]:
                self._pause = _RETRY_SECONDS
                return 0
            cursor = await connection.execute(_WAITING, {"limit": _MOST_READ})
            rows = await cursor.fetchall()
            OUTBOX_WAITING.set(len(rows))
            for _, subject, payload, message_id in rows:
                await self._bus.append(subject, payload, f"{self._owner}-{message_id}")
            if rows:
                await connection.execute(_DELETE, {"ids": [row[0] for row in rows]})
        self._pause = _IDLE_SECONDS
        return len(rows)

    async def _any_waiting(self) -> bool:
        """Return whether there are announcements: one statement, instead of a transaction of several."""
        async with self._db.read() as connection:
            cursor = await connection.execute(_ANY)
            found = bool((await cursor.fetchone() or (False,))[0])
        if not found:
            OUTBOX_WAITING.set(0)
            self._pause = _IDLE_SECONDS
        return found

    async def _wait(self) -> bool:
        """Wait for a commit of this process, for a moment; return whether there was one."""
        try:
            async with asyncio.timeout(self._pause):
                await self._outbox.filled.wait()
        except TimeoutError:
            return False
        self._outbox.filled.clear()
        return True
