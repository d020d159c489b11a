"""`replay`: sends logged or refused events again, as new batches through their lanes."""

import argparse
import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from google.rpc.code_pb2 import ALREADY_EXISTS, OK, Code

from services.contracts.event_batches import BatchedEvent, lane_of, size
from services.contracts.event_fingerprints import fingerprint_of
from services.contracts.execution_names import execution
from services.events.commands.arguments import add_json, add_since, parser
from services.events.commands.log_reader import logged, objects_of, refused_entry
from services.events.commands.show import NOTHING_FOUND, show
from services.events.config import Settings
from services.events.ingest.batcher import Limits
from services.events.ingest.publisher import EventPublisher
from services.events.ingest.streams import make_ready
from services.events.rules.log_lines import Entry, about, fields_of, unreadable
from services.events.store.refused_events import refused_named
from services.kit.db.database import Database, at_terminal
from services.kit.errors import Unavailable
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore
from services.kit.process.service import Command

_COLUMNS = ("execution", "kind", "node", "attempt", "phase", "version", "verdict", "message")
_NOT_SENT = "not sent"
_WELL = {Code.Name(OK), Code.Name(ALREADY_EXISTS)}
_NOT_ALL_WELL = 1
# Ids beyond this are no PostgreSQL bigint.
_LARGEST_ID = 2**63 - 1


@dataclass
class _Sending:
    """An event that is sent again, and what became of it now."""

    entry: Entry
    lane: int = 0
    failed: str = ""  # why it was not sent


async def replay(settings: Settings, arguments: Sequence[str]) -> int:
    """Send events again and show their verdicts."""
    chosen = _chosen(arguments)
    objects = objects_of(settings)
    async with at_terminal(settings.database_url) as db:
        entries = await _entries(db, objects, chosen)
    if not entries:
        sys.stderr.write("nothing found to send again\n")
        return NOTHING_FOUND
    sending = list(map(_addressed, entries))
    sys.stderr.write(f"sending {sum(not each.failed for each in sending)} of {len(sending)} events again\n")
    async with _lanes(settings, objects) as lanes:
        for lane in sorted({each.lane for each in sending if not each.failed}):
            await _send(lanes, lane, [each for each in sending if not each.failed and each.lane == lane])
    rows = [_row(each) for each in sending]
    show(_COLUMNS, rows, "", as_lines=chosen.json)
    return 0 if all(row["verdict"] in _WELL for row in rows) else _NOT_ALL_WELL


def _chosen(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser(
        "replay",
        "Sends events again, in their order, and shows the verdict on each. They go through the lanes like new ones:\n"
        "executions applies those that now fit and answers ALREADY_EXISTS or FAILED_PRECONDITION to those it had;\n"
        "nothing is undone first. They are logged again.",
    )
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--execution", type=execution, metavar="PROJECT/DOMAIN/NAME", help="all that was received for it"
    )
    which.add_argument(
        "--refused", type=_identifier, nargs="+", metavar="ID", help="as the command 'refused' shows them"
    )
    add_since(options)
    add_json(options)
    chosen = options.parse_args(arguments)
    if chosen.since and chosen.refused:
        options.error("--since goes with --execution")
    return chosen


def _identifier(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST_ID):
        raise argparse.ArgumentTypeError(f"{text!r} is no id of a refused event")
    return int(text)


async def _entries(db: Database, objects: ObjectStore, chosen: argparse.Namespace) -> list[Entry]:
    if chosen.execution:
        return [entry async for entry in logged(db, objects, chosen.execution, chosen.since)]
    rows = await refused_named(db, chosen.refused)
    if unknown := sorted(set(chosen.refused) - {row.id for row in rows}):
        sys.stderr.write(f"no refused event has the id {', '.join(map(str, unknown))}\n")
    return [await refused_entry(objects, row) for row in rows]


def _addressed(entry: Entry) -> _Sending:
    if entry.body is None:
        return _Sending(entry, failed="its object is gone")
    read = about(entry.event.kind, entry.body)
    if read is None:
        return _Sending(entry, failed="it cannot be read")
    if fault := unreadable(entry.event.kind, entry.body):
        return _Sending(entry, failed=f"it would be refused: {fault}")
    marked = entry.event._replace(mark=fingerprint_of(*read.execution))
    return _Sending(replace(entry, event=marked, verdict=None), lane_of(*read.execution))


@asynccontextmanager
async def _lanes(settings: Settings, objects: ObjectStore) -> AsyncIterator[EventPublisher]:
    bus = await Bus.connect(settings.nats_url, "events-replay", settings.nats_tls)
    try:
        await make_ready(bus)
        lanes = EventPublisher(bus, objects, Limits.of(settings), sender=uuid.uuid4().hex)
        await bus.subscribe(lanes.inbox, lanes.heard)
        yield lanes
    finally:
        await bus.close()


async def _send(lanes: EventPublisher, lane: int, sending: Sequence[_Sending]) -> None:
    """Send one batch after the other, each after the verdicts of the last or when they keep us waiting too long."""
    sent = 0
    try:
        for batch in _batches([each.entry.event for each in sending], lanes.limits):
            answer = await lanes.send(lane, batch)
            await asyncio.wait([answer], timeout=lanes.limits.verdict_wait)
            verdicts = answer.result() if answer.done() else (None,) * len(batch)
            for each, verdict in zip(sending[sent : sent + len(batch)], verdicts, strict=True):
                each.entry = replace(each.entry, verdict=verdict)
            sent += len(batch)
    except Unavailable as error:
        for each in sending[sent:]:
            each.failed = error.message


def _batches(events: Sequence[BatchedEvent], limits: Limits) -> Iterator[list[BatchedEvent]]:
    batch: list[BatchedEvent] = []
    for event in events:
        if batch and (len(batch) == limits.batch_events or size([*batch, event]) > limits.batch_bytes):
            yield batch
            batch = []
        batch.append(event)
    yield batch


def _row(each: _Sending) -> dict[str, str | int | None]:
    fields = fields_of(each.entry)
    return fields | {"verdict": _NOT_SENT, "message": each.failed} if each.failed else fields


REPLAY = Command("send an execution's events or refused events again", replay)
