"""Both ends of the event path in one process: calls of the engine, and replicas that apply its batches."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import grpc
import psycopg
from flyteidl.admin.event_pb2 import (
    EventFailureReason,
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.event.event_pb2 import NodeExecutionEvent, WorkflowExecutionEvent
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from services.contracts.event_batches import (
    VERDICT_SUBJECT_HEADER,
    Batch,
    BatchedEvent,
    decode_verdicts,
    encode_batch,
    lane_of,
    parse_verdict,
    subject_of,
    verdict_subject_of,
)
from services.executions.consumers.requests import ExecutionRequests
from services.executions.events.batches import EventBatchConsumer
from services.executions.events.ownership import LaneOwnership
from services.executions.rules.events.batch import Event
from services.executions.rules.events.layout import ObjectLayout
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox, Relay
from services.kit.messaging.streams import Delivery
from services.kit.objects.store import ObjectStore
from services.kit.process.service import cancel_all
from tests.support.event_makers import batched
from tests.support.event_model_checks import OK, Verdict
from tests.support.parts import Parts
from tests.support.plain import plain
from tests.support.subscriptions import until_subscribed
from tests.support.waiting import once_available

SOON_SECONDS = 15.0
# A busy machine, or a test that blocks the event loop on which the service runs too, stalls the service.
_STALLED = "the service stood still"


@dataclass
class Executions:
    """The executions service's database, with replicas that apply batches to it."""

    url: str
    nats_url: str
    objects: ObjectStore

    @classmethod
    async def migrated(cls, parts: Parts, database: str) -> Self:
        """Create `database`, with objects in a folder of the session."""
        url = await asyncio.to_thread(parts.migrated_database, "executions", database)
        return cls(url, parts.nats_url, ObjectStore.open(f"file://{parts.folder}/{database}", "", "key"))

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[EventBatchConsumer]:
        """Apply batches, and serve them to the event log, until the end of the block."""
        db = await Database.open(self.url)
        bus = await Bus.connect(self.nats_url, "executions")
        outbox = Outbox()
        listener = EventBatchConsumer(db, bus, self.objects, outbox, ObjectLayout(self.objects.uri))
        loops = [
            asyncio.create_task(loop())
            for loop in (
                Relay("executions", db, bus, outbox).run,
                bus.check_streams_periodically,
                *LaneOwnership(self.url, bus, listener).loops,
            )
        ]
        await listener.listen()
        await ExecutionRequests(WorkflowExecutionConfig(), db).listen(bus)
        try:
            yield listener
        finally:
            await cancel_all(loops)
            await bus.close()
            await db.close()

    def create(self, cluster: str = "") -> str:
        """Insert an execution as CreateExecution does and return its name."""
        name = f"e{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "INSERT INTO executions (execution_project, execution_domain, execution_name, phase, spec, closure,"
                " cluster) VALUES ('p', 'd', %s, 'UNDEFINED', %s, %s, %s)",
                (name, ExecutionSpec().SerializeToString(), ExecutionClosure().SerializeToString(), cluster),
            )
        return name

    def rows(self, table: str, columns: str, name: str) -> list[tuple[object, ...]]:
        """Return `columns` of the execution's rows in `table`, oldest first."""
        with psycopg.connect(self.url) as connection:
            statement = f"SELECT {columns} FROM {table} WHERE execution_name = %s ORDER BY id"
            return connection.execute(statement, (name,)).fetchall()

    def phases(self, name: str) -> list[object]:
        """Return the phases of the execution, of its nodes and of its tasks."""
        return [
            *(row[0] for row in self.rows("executions", "phase", name)),
            *(row[0] for row in self.rows("node_executions", "phase", name)),
            *(row[0] for row in self.rows("task_executions", "phase", name)),
        ]


def delivery(name: str, events: Iterable[Event | BatchedEvent], sequence: int = 1) -> tuple[int, Delivery]:
    """Return a batch of events of the execution `name`, as the stream delivers it, after its lane."""
    batch = Batch(uuid.uuid4().hex, tuple(e if isinstance(e, BatchedEvent) else batched(e) for e in events))
    lane = lane_of("p", "d", name)
    return lane, Delivery(subject_of(lane), encode_batch(batch), sequence, datetime.now(UTC))


async def verdicts_of(
    bus: Bus, apply: Callable[[int, Delivery], Awaitable[None]], lane: int, sent: Delivery
) -> list[int]:
    """Return the codes of the verdicts that `apply` sends for the delivery `sent`."""
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def receive(data: bytes) -> None:
        received.set_result(data)

    subject = verdict_subject_of(uuid.uuid4().hex)
    await bus.subscribe(subject, receive)
    await until_subscribed(bus)
    await apply(lane, replace(sent, headers={VERDICT_SUBJECT_HEADER: subject}))
    statuses = map(parse_verdict, decode_verdicts(await asyncio.wait_for(received, SOON_SECONDS)).statuses)
    return [0 if status is None else status.code for status in statuses]


async def verdict_of(admin: AdminServiceStub, event: Event) -> Verdict:
    """Send one event and return its verdict in the form of the model."""
    try:
        await send(admin, event)
    except grpc.aio.AioRpcError as error:
        metadata: Any = error.trailing_metadata()
        packed = metadata.get("grpc-status-details-bin") if metadata else None
        reason = EventFailureReason()
        if packed:
            (detail,) = Status.FromString(packed).details
            assert detail.Unpack(reason)
        return error.code().name, plain(reason)
    return OK


async def send(admin: AdminServiceStub, event: Event) -> None:
    """Send one event as the engine does; again only when the service refused it after a stall."""
    call: Callable[[], Awaitable[Message]]
    if isinstance(event, WorkflowExecutionEvent):
        call = partial(admin.CreateWorkflowEvent, WorkflowExecutionEventRequest(event=event))
    elif isinstance(event, NodeExecutionEvent):
        call = partial(admin.CreateNodeEvent, NodeExecutionEventRequest(event=event))
    else:
        call = partial(admin.CreateTaskEvent, TaskExecutionEventRequest(event=event))
    await once_available(call, _STALLED)
