"""The command `replay`: sends logged or refused events again, in new batches through their lanes."""

import argparse
import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from google.rpc.code_pb2 import ALREADY_EXISTS, OK, Code

from services.contracts.event_batches import BatchedEvent, lane_of, size
from services.contracts.execution_argument import execution_argument
from services.contracts.fingerprints import fingerprint_of
from services.events.commands.arguments import parser
from services.events.commands.log_reader import objects_of, read_log, read_refused
from services.events.config import Settings
from services.events.consumers.log_writer import LogWriter
from services.events.ingest.limits import Limits
from services.events.ingest.publisher import EventPublisher
from services.events.ingest.streams import declare_streams
from services.events.rules.log_lines import LoggedEvent, columns_of, readability_fault, summarize
from services.events.store.refused_events import refused_by_id
from services.kit.db.database import Database, at_terminal
from services.kit.errors import Unavailable
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore
from services.kit.process.service import Command
from services.kit.process.terminal import NOTHING_FOUND, add_json, add_since, show

_COLUMNS = ("execution", "kind", "node", "attempt", "phase", "version", "verdict", "message")
_NOT_SENT = "not sent"
_RECORDED = {Code.Name(OK), Code.Name(ALREADY_EXISTS)}
_NOT_ALL_RECORDED = 1
# The largest PostgreSQL bigint.
_LARGEST_ID = 2**63 - 1


@dataclass
class _Sending:
    """An event that is sent again, with its new verdict."""

    logged: LoggedEvent
    lane: int = 0
    failed: str = ""  # why it was not sent


async def replay(settings: Settings, arguments: Sequence[str]) -> int:
    """Send events again and show their verdicts."""
    chosen = _chosen(arguments)
    objects = objects_of(settings)
    async with at_terminal(settings.database_url) as db:
        events = await _read_events(db, objects, chosen)
    if not events:
        sys.stderr.write("nothing found to send again\n")
        return NOTHING_FOUND
    all_sending = list(map(_addressed, events))
    sendable = [sending for sending in all_sending if not sending.failed]
    sys.stderr.write(f"sending {len(sendable)} of {len(all_sending)} events again\n")
    async with _publisher(settings, objects) as publisher:
        for lane in sorted({sending.lane for sending in sendable}):
            await _send(publisher, lane, [sending for sending in sendable if sending.lane == lane])
    rows = [_row(sending) for sending in all_sending]
    show(_COLUMNS, rows, "", as_lines=chosen.json)
    return 0 if all(row["verdict"] in _RECORDED for row in rows) else _NOT_ALL_RECORDED


def _chosen(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser(
        "replay",
        "Sends events again, in their order, and shows the verdict on each. They go through the lanes like new ones:\n"
        "executions applies those that now fit and returns ALREADY_EXISTS or FAILED_PRECONDITION for those it had;\n"
        "nothing is undone first. They are logged again.",
    )
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--execution", type=execution_argument, metavar="PROJECT/DOMAIN/NAME", help="all that was received for it"
    )
    which.add_argument(
        "--refused", type=_identifier, nargs="+", metavar="ID", help="as the command 'refused' shows them"
    )
    add_since(options)
    add_json(options, "an event")
    chosen = options.parse_args(arguments)
    if chosen.since and chosen.refused:
        options.error("--since goes with --execution")
    return chosen


def _identifier(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST_ID):
        raise argparse.ArgumentTypeError(f"{text!r} is no id of a refused event")
    return int(text)


async def _read_events(db: Database, objects: ObjectStore, chosen: argparse.Namespace) -> list[LoggedEvent]:
    if chosen.execution:
        return [logged async for logged in read_log(db, objects, chosen.execution, chosen.since)]
    rows = await refused_by_id(db, chosen.refused)
    if unknown := sorted(set(chosen.refused) - {row.id for row in rows}):
        sys.stderr.write(f"no refused event has the id {', '.join(map(str, unknown))}\n")
    return [await read_refused(objects, row) for row in rows]


def _addressed(logged: LoggedEvent) -> _Sending:
    if logged.body is None:
        return _Sending(logged, failed="its object is gone")
    summary = summarize(logged.event.kind, logged.body)
    if summary is None:
        return _Sending(logged, failed="it cannot be read")
    if fault := readability_fault(logged.event.kind, logged.body):
        return _Sending(logged, failed=f"it would be refused: {fault}")
    event = logged.event._replace(fingerprint=fingerprint_of(*summary.execution))
    return _Sending(replace(logged, event=event, verdict=None), lane_of(*summary.execution))


@asynccontextmanager
async def _publisher(settings: Settings, objects: ObjectStore) -> AsyncIterator[EventPublisher]:
    """Yield a publisher; at the end, log what it has sent, as its verdicts wake no other process."""
    bus = await Bus.connect(settings.nats_url, "events-replay", settings.nats_tls)
    try:
        await declare_streams(bus)
        publisher = EventPublisher(bus, objects, Limits.of(settings), process_id=uuid.uuid4().hex)
        async with at_terminal(settings.database_url) as db:
            writer = LogWriter(db, bus)

            async def receive(verdicts: bytes) -> None:
                await publisher.receive_verdicts(verdicts)
                writer.wake()

            await bus.subscribe(publisher.verdict_subject, receive)
            yield publisher
            await writer.drain()
    finally:
        await bus.close()


async def _send(publisher: EventPublisher, lane: int, events: Sequence[_Sending]) -> None:
    """Send one batch after the other, each after the verdicts of the last one or a timeout."""
    sent = 0
    try:
        for batch in _batches([sending.logged.event for sending in events], publisher.limits):
            reply = await publisher.send_batch(lane, batch)
            await asyncio.wait([reply], timeout=publisher.limits.verdict_wait)
            verdicts = reply.result() if reply.done() else (None,) * len(batch)
            for sending, verdict in zip(events[sent : sent + len(batch)], verdicts, strict=True):
                sending.logged = replace(sending.logged, verdict=verdict)
            sent += len(batch)
    except Unavailable as error:
        for sending in events[sent:]:
            sending.failed = error.message


def _batches(events: Sequence[BatchedEvent], limits: Limits) -> Iterator[list[BatchedEvent]]:
    batch: list[BatchedEvent] = []
    for event in events:
        if batch and (len(batch) == limits.batch_events or size([*batch, event]) > limits.batch_bytes):
            yield batch
            batch = []
        batch.append(event)
    yield batch


def _row(sending: _Sending) -> dict[str, str | int | None]:
    columns = columns_of(sending.logged)
    return columns | {"verdict": _NOT_SENT, "message": sending.failed} if sending.failed else columns


REPLAY = Command("send an execution's events or refused events again", replay)
