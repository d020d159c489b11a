"""Reads for the commands: an execution's logged events, refused events, and the objects of large ones."""

from collections.abc import AsyncIterator
from datetime import datetime

from services.contracts.event_batches import lane_of
from services.contracts.execution_argument import ExecutionName
from services.contracts.fingerprints import fingerprint_of
from services.events.config import Settings
from services.events.rules.log_lines import LoggedEvent, events_of, summarize
from services.events.store.event_log import batches_of_execution
from services.events.store.refused_events import RefusedEvent
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, NotFound
from services.kit.objects.store import ObjectStore


def objects_of(settings: Settings) -> ObjectStore:
    """Open the object store, without a key: the commands sign no URLs."""
    return ObjectStore.open(settings.objects_url, "", "", settings.bucket_access)


async def read_log(
    db: Database, objects: ObjectStore, execution: ExecutionName, since: datetime | None
) -> AsyncIterator[LoggedEvent]:
    """Yield all events received for `execution`, in order."""
    fingerprint = fingerprint_of(*execution)
    async for batch in batches_of_execution(db, lane_of(*execution), fingerprint, since):
        for event in events_of(batch.received_at, batch.payload, batch.verdicts, fingerprint, batch.fingerprints):
            logged = await _with_object(objects, event)
            # Fingerprints may collide, and batches of a former release have none: the event itself decides.
            if belongs_to(logged, execution) or (logged.body is None and batch.fingerprints is not None):
                yield logged


async def read_refused(objects: ObjectStore, row: RefusedEvent) -> LoggedEvent:
    """Return a refused event in the form of a logged one; its time is that of the refusal."""
    body = None if row.event.by_reference else row.event.body
    logged = LoggedEvent(row.refused_at, row.batch_id, row.position, row.event, row.status, body)
    return await _with_object(objects, logged)


def belongs_to(logged: LoggedEvent, execution: ExecutionName) -> bool:
    """Return whether the event names `execution`; False when it cannot be read."""
    summary = None if logged.body is None else summarize(logged.event.kind, logged.body)
    return summary is not None and summary.execution == execution


async def _with_object(objects: ObjectStore, logged: LoggedEvent) -> LoggedEvent:
    if logged.missing_object is None:
        return logged
    try:
        return logged.with_body(await objects.get(logged.missing_object))
    except (NotFound, InvalidArgument):
        return logged
