"""The two ends of the event path in one process: calls of the engine, and replicas that apply its batches."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
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
from flyteidl.event.event_pb2 import NodeExecutionEvent, WorkflowExecutionEvent
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.rpc.status_pb2 import Status

import services.executions
from services.executions.listeners.event_batches import EventBatches
from services.executions.rules.events.batch import Event
from services.executions.rules.events.storage import Storage
from services.kit import migrations
from services.kit.bus import Bus
from services.kit.db import Database
from services.kit.objects import ObjectStore
from services.kit.outbox import Outbox, Relay
from tests.support.event_model_checks import OK, Answer
from tests.support.parts import Parts
from tests.support.plain import plain

MIGRATIONS = Path(str(services.executions.__file__)).parent / "store" / "migrations"


@dataclass
class Executions:
    """The executions service's side: its database, and the listener as replicas of it would run it."""

    url: str
    nats_url: str
    objects: ObjectStore

    @classmethod
    async def migrated(cls, parts: Parts, database: str) -> Self:
        """On a new `database`, with objects in a folder of the session."""
        url = parts.new_database(database)
        await asyncio.to_thread(migrations.migrate, url, MIGRATIONS)
        return cls(url, parts.nats_url, ObjectStore.open(f"file://{parts.folder}/{database}", "", "key"))

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[EventBatches]:
        """Apply batches until the end of the block."""
        db = await Database.open(self.url)
        bus = await Bus.connect(self.nats_url, "executions")
        outbox = Outbox()
        listener = EventBatches(db, bus, self.objects, outbox, Storage(self.objects.uri))
        relay = asyncio.create_task(Relay("executions", db, bus, outbox).run())
        await listener.listen()
        try:
            yield listener
        finally:
            relay.cancel()
            await bus.close()
            await db.close()

    def create(self, cluster: str = "") -> str:
        """An execution as CreateExecution leaves it; answers its name."""
        name = f"e{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "INSERT INTO executions (execution_project, execution_domain, execution_name, phase, spec, closure,"
                " cluster) VALUES ('p', 'd', %s, 'UNDEFINED', %s, %s, %s)",
                (name, ExecutionSpec().SerializeToString(), ExecutionClosure().SerializeToString(), cluster),
            )
        return name

    def rows(self, table: str, columns: str, name: str) -> list[tuple[object, ...]]:
        """`columns` of the execution's rows in `table`, oldest first."""
        with psycopg.connect(self.url) as connection:
            statement = f"SELECT {columns} FROM {table} WHERE execution_name = %s ORDER BY id"
            return connection.execute(statement, (name,)).fetchall()

    def phases(self, name: str) -> list[object]:
        """Phases of the execution, of its nodes and of its tasks."""
        return [
            *(row[0] for row in self.rows("executions", "phase", name)),
            *(row[0] for row in self.rows("node_executions", "phase", name)),
            *(row[0] for row in self.rows("task_executions", "phase", name)),
        ]


async def told(admin: AdminServiceStub, event: Event) -> Answer:
    """Send one event; answers what its sender is told, as the model puts it."""
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
    """Send one event as the engine does, once."""
    if isinstance(event, WorkflowExecutionEvent):
        await admin.CreateWorkflowEvent(WorkflowExecutionEventRequest(event=event))
    elif isinstance(event, NodeExecutionEvent):
        await admin.CreateNodeEvent(NodeExecutionEventRequest(event=event))
    else:
        await admin.CreateTaskEvent(TaskExecutionEventRequest(event=event))
