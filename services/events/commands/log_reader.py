"""Reads what the commands are about: an execution's logged events, refused events, and the objects of large ones."""

from collections.abc import AsyncIterator
from datetime import datetime

from services.contracts.event_batches import lane_of
from services.contracts.event_fingerprints import fingerprint_of
from services.contracts.execution_names import ExecutionName
from services.events.config import Settings
from services.events.rules.log_lines import Entry, about, entries_of
from services.events.store.event_log import of_execution
from services.events.store.refused_events import RefusedEvent
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, NotFound
from services.kit.objects.store import ObjectStore


def objects_of(settings: Settings) -> ObjectStore:
    """The object store; nothing is signed."""
    return ObjectStore.open(settings.objects_url, public_url="", signing_key="")


async def logged(
    db: Database, objects: ObjectStore, wanted: ExecutionName, since: datetime | None
) -> AsyncIterator[Entry]:
    """Every event received for the execution, in order."""
    mark = fingerprint_of(*wanted)
    async for batch in of_execution(db, lane_of(*wanted), mark, since):
        for found in entries_of(batch.received_at, batch.payload, batch.verdicts, mark, batch.marks):
            entry = await _whole(objects, found)
            # Marks may meet by chance, and a former release's batches have none: the event itself decides.
            if is_of(entry, wanted) or (entry.body is None and batch.marks is not None):
                yield entry


async def refused_entry(objects: ObjectStore, row: RefusedEvent) -> Entry:
    """A refused event as an entry; its time is that of the refusal."""
    body = None if row.event.by_reference else row.event.body
    return await _whole(objects, Entry(row.refused_at, row.batch_id, row.position, row.event, row.status, body))


def is_of(entry: Entry, wanted: ExecutionName) -> bool:
    """Whether the event says that it belongs to the execution."""
    read = None if entry.body is None else about(entry.event.kind, entry.body)
    return read is not None and read.execution == wanted


async def _whole(objects: ObjectStore, entry: Entry) -> Entry:
    if entry.needs is None:
        return entry
    try:
        return entry.with_body(await objects.get(entry.needs))
    except (NotFound, InvalidArgument):
        return entry
