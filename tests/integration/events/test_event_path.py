"""Events from the engine's call to the committed row, over real NATS and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.event_pb2 import (
    EventFailureReason,
    TaskExecutionEventRequest,
)
from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.event.event_pb2 import (
    DynamicWorkflowNodeMetadata,
    NodeExecutionEvent,
    ParentNodeExecutionMetadata,
    TaskNodeMetadata,
    WorkflowExecutionEvent,
)
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.rpc.status_pb2 import Status

from services.contracts.event_batches import BATCHES_STREAM, durable_of, lane_of, subject_of
from services.executions.events.batches import EventBatchConsumer
from services.executions.rules.events.batch import Event
from services.kit.errors import Code, Unavailable
from services.kit.messaging.bus import Bus
from services.kit.messaging.streams import Delivery
from tests.support.event_makers import VALUES, node_event, task_event, workflow_event
from tests.support.event_path import Executions, delivery, send, verdicts_of
from tests.support.parts import Parts, Served, free_port, running_nats, service
from tests.support.waiting import until

SOON_SECONDS = 15.0
VERDICT_WAIT_SECONDS = 3.0


@pytest.fixture(scope="module")
async def executions(parts: Parts) -> Executions:
    return await Executions.migrated(parts, "test_event_path")


@pytest.fixture(scope="module")
async def events(parts: Parts, executions: Executions) -> AsyncIterator[Served]:
    settings = {"objects_url": executions.objects.uri(), "verdict_wait_seconds": VERDICT_WAIT_SECONDS}
    async with service("events", parts, "test_events", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def admin(events: Served) -> AdminServiceStub:
    return AdminServiceStub(events.channel)


async def refused(admin: AdminServiceStub, event: Event) -> Status:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await send(admin, event)
    code: int = raised.value.code().value[0]
    metadata: Any = raised.value.trailing_metadata()
    if packed := metadata.get("grpc-status-details-bin"):
        status = Status.FromString(packed)
        assert status.code == code
        return status
    return Status(code=code, message=raised.value.details() or "")


def phase_name(event: Event) -> str:
    if isinstance(event, WorkflowExecutionEvent):
        return WorkflowExecution.Phase.Name(event.phase)
    phases = NodeExecution.Phase if isinstance(event, NodeExecutionEvent) else TaskExecution.Phase
    return phases.Name(event.phase)


def history(name: str) -> list[Event]:
    """Return the events of a single task node, without start and end node (engine.md#single-task-node)."""
    return [
        workflow_event("RUNNING", 1, name),
        node_event("QUEUED", 2, name=name, input_uri="in"),
        task_event("QUEUED", 3, name=name, version=1),
        node_event("RUNNING", 4, name=name),
        task_event("RUNNING", 5, name=name),
        task_event("SUCCEEDED", 6, name=name, output_uri="out"),
        node_event("SUCCEEDED", 7, name=name, output_uri="out"),
        workflow_event("SUCCEEDING", 8, name),
        workflow_event("SUCCEEDED", 9, name, output_data=VALUES),
    ]


@pytest.mark.usefixtures("applied")
async def test_an_event_is_committed_before_its_response(admin: AdminServiceStub, executions: Executions) -> None:
    name = executions.create()
    for event in history(name):
        await send(admin, event)
        assert phase_name(event) in executions.phases(name)
    assert executions.phases(name) == ["SUCCEEDED"] * 3
    ((closure, started, duration),) = executions.rows("executions", "closure, started_at, duration", name)
    read = ExecutionClosure.FromString(closure)  # type: ignore[arg-type]  # a row of unknown types
    assert LiteralMap.FromString(await executions.objects.get(read.outputs.uri)) == VALUES
    assert (started is not None, duration) == (True, 8_000_000_000)
    assert executions.rows("node_executions", "input_uri, duration", name) == [("in", 3_000_000_000)]
    assert executions.rows("task_executions", "phase_version, duration", name) == [(0, 1_000_000_000)]


@pytest.mark.usefixtures("applied")
async def test_verdicts_are_returned_with_their_details(admin: AdminServiceStub, executions: Executions) -> None:
    name = executions.create("c1")
    await send(admin, workflow_event("RUNNING", name=name))
    assert (await refused(admin, workflow_event("RUNNING", name=name))).code == Code.ALREADY_EXISTS
    assert (await refused(admin, node_event("RUNNING", name="unknown"))).code == Code.NOT_FOUND
    assert (await refused(admin, task_event("RUNNING", name=name))).code == Code.NOT_FOUND
    other = await refused(admin, node_event("RUNNING", name=name, producer_id="c2"))
    reason = EventFailureReason()
    assert (other.code, other.details[0].Unpack(reason)) == (Code.FAILED_PRECONDITION, True)
    assert reason.incompatible_cluster.cluster == "c2"
    await send(admin, workflow_event("ABORTED", name=name))
    over = await refused(admin, workflow_event("SUCCEEDED", name=name))
    assert (over.code, over.details[0].Unpack(reason)) == (Code.FAILED_PRECONDITION, True)
    assert reason.already_in_terminal_state.current_phase == "ABORTED"


@pytest.mark.usefixtures("applied")
async def test_events_of_many_executions_at_once_are_all_applied(
    admin: AdminServiceStub, executions: Executions
) -> None:
    names = [executions.create() for _ in range(40)]

    async def play(name: str) -> None:
        for event in history(name):
            await send(admin, event)

    await asyncio.gather(*map(play, names))
    assert [executions.phases(name) for name in names] == [["SUCCEEDED"] * 3] * len(names)


@pytest.mark.usefixtures("applied")
async def test_a_queued_event_assigns_its_cluster(admin: AdminServiceStub, executions: Executions) -> None:
    name = executions.create("c1")
    await send(admin, workflow_event("QUEUED", name=name, producer_id="c2"))
    ((cluster, spec),) = executions.rows("executions", "cluster, spec", name)
    read = ExecutionSpec.FromString(spec)  # type: ignore[arg-type]  # a row of unknown types
    assert cluster == read.metadata.system_metadata.execution_cluster == "c2"


@pytest.mark.usefixtures("applied")
async def test_a_nested_node_is_stored_with_its_parent(admin: AdminServiceStub, executions: Executions) -> None:
    name = executions.create()
    parent = ParentNodeExecutionMetadata(node_id="n0")
    await send(admin, node_event("RUNNING", name=name, is_parent=True))
    await send(admin, node_event("QUEUED", node="n0-0-a", name=name, parent_node_metadata=parent, event_version=1))
    rows = executions.rows("node_executions", "id, parent_id, internal_data", name)
    assert rows[1][1:] == (rows[0][0], b"\x08\x01")


@pytest.mark.usefixtures("applied")
async def test_an_event_larger_than_a_message_is_applied(admin: AdminServiceStub, executions: Executions) -> None:
    name = executions.create()
    compiled = CompiledWorkflowClosure(primary={"template": {"id": {"name": "x" * 1_500_000}}})
    dynamic = TaskNodeMetadata(dynamic_workflow=DynamicWorkflowNodeMetadata(compiled_workflow=compiled))
    await send(admin, node_event("DYNAMIC_RUNNING", name=name, task_node_metadata=dynamic))
    ((uri,),) = executions.rows("node_executions", "dynamic_workflow_remote_closure_reference", name)
    assert CompiledWorkflowClosure.FromString(await executions.objects.get(str(uri))) == compiled


async def test_events_return_ok_and_are_not_lost_while_executions_is_down(
    admin: AdminServiceStub, executions: Executions, events: Served
) -> None:
    name = executions.create()
    for event in history(name)[:2]:
        await send(admin, event)
    await send(admin, task_event("RUNNING", node="unknown", name=name))
    assert executions.phases(name) == ["UNDEFINED"]

    def caught_up() -> bool:
        return executions.phases(name) == ["RUNNING", "QUEUED"]

    def stored() -> bool:
        with psycopg.connect(events.settings.database_url) as connection:
            rows = connection.execute("SELECT kind, code, event FROM refused_events").fetchall()
        return any(
            (kind, code) == ("TASK", Code.NOT_FOUND)
            and TaskExecutionEventRequest.FromString(body).event.parent_node_execution_id.execution_id.name == name
            for kind, code, body in rows
        )

    async with executions.replica():
        await until(caught_up)
        await until(stored)
        for event in history(name)[2:]:
            await send(admin, event)
    assert executions.phases(name) == ["SUCCEEDED"] * 3


async def test_events_are_applied_in_order_after_an_outage_of_the_database(
    admin: AdminServiceStub, executions: Executions
) -> None:
    name = executions.create()
    database = executions.url.partition("?")[0].rpartition("/")[2]
    admin_url = executions.url.replace(f"/{database}", "/postgres", 1)

    def allow(connections: bool) -> None:
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {connections}")
            if not connections:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,)
                )

    def caught_up() -> bool:
        return executions.phases(name) == ["RUNNING", "QUEUED", "QUEUED"]

    async with executions.replica():
        allow(connections=False)
        try:
            for event in history(name)[:3]:
                await send(admin, event)
        finally:
            allow(connections=True)
        await until(caught_up)


async def test_a_batch_delivered_again_returns_the_same_verdicts_and_changes_nothing(
    applied: EventBatchConsumer, executions: Executions, bus: Bus
) -> None:
    name = executions.create()
    lane, sent = delivery(name, [node_event("QUEUED", name=name), node_event("QUEUED", name=name)])
    first = await verdicts_of(bus, applied.apply_delivery, lane, sent)
    before = executions.rows("node_executions", "xmin::text, phase", name)
    again = await verdicts_of(bus, applied.apply_delivery, lane, sent)
    assert first == again == [Code.OK, Code.ALREADY_EXISTS]
    assert executions.rows("node_executions", "xmin::text, phase", name) == before


async def test_a_batch_delivered_again_after_its_successor_changes_nothing(
    applied: EventBatchConsumer, executions: Executions
) -> None:
    # As when a replica stalls with a batch while another applies it and the next one.
    name = executions.create()
    lane, first = delivery(name, [node_event("QUEUED", name=name)], sequence=7)
    _, second = delivery(name, [node_event("RUNNING", name=name)], sequence=8)
    await applied.apply_delivery(lane, first)
    await applied.apply_delivery(lane, second)
    await applied.apply_delivery(lane, first)
    assert executions.phases(name) == ["UNDEFINED", "RUNNING"]


@pytest.mark.parametrize(
    ("sequence", "later"),
    [(1, timedelta(seconds=1)), (9, timedelta(seconds=-1))],
    ids=["a new stream", "a clock set back"],
)
async def test_a_batch_is_new_unless_both_its_sequence_and_its_time_are_past(
    sequence: int, later: timedelta, applied: EventBatchConsumer, executions: Executions
) -> None:
    name = executions.create()
    lane, first = delivery(name, [node_event("QUEUED", name=name)], sequence=8)
    _, second = delivery(name, [node_event("RUNNING", name=name)], sequence=sequence)
    await applied.apply_delivery(lane, first)
    await applied.apply_delivery(lane, replace(second, stored_at=first.stored_at + later))
    assert executions.phases(name) == ["UNDEFINED", "RUNNING"]


async def test_a_batch_that_cannot_be_read_is_stored_as_an_object(
    applied: EventBatchConsumer, executions: Executions
) -> None:
    await applied.apply_delivery(0, Delivery(subject_of(0), b"no batch", 987_654, datetime.now(UTC)))
    assert await executions.objects.get(executions.objects.uri("metadata/events/unreadable/0-987654")) == b"no batch"


async def test_a_user_and_an_event_change_an_execution_one_after_the_other(
    applied: EventBatchConsumer, executions: Executions, bus: Bus
) -> None:
    name = executions.create()
    lane, sent = delivery(name, [workflow_event("RUNNING", name=name)])
    async with await psycopg.AsyncConnection.connect(executions.url) as user:
        await user.execute("SELECT 1 FROM executions WHERE execution_name = %s FOR UPDATE", (name,))
        taking = asyncio.create_task(verdicts_of(bus, applied.apply_delivery, lane, sent))
        aborting = ExecutionClosure(phase="ABORTING", abort_metadata={"cause": "enough"})
        await user.execute(
            "UPDATE executions SET phase = 'ABORTING', closure = %s WHERE execution_name = %s",
            (aborting.SerializeToString(), name),
        )
    assert await taking == [Code.FAILED_PRECONDITION]
    ((closure,),) = executions.rows("executions", "closure", name)
    assert ExecutionClosure.FromString(closure) == aborting  # type: ignore[arg-type]  # a row of unknown types


@pytest.mark.usefixtures("applied")
async def test_a_node_named_like_an_object_does_not_block_its_lane(
    admin: AdminServiceStub, executions: Executions
) -> None:
    name = executions.create()
    await send(admin, workflow_event("RUNNING", 1, name))
    await send(admin, node_event("SUCCEEDED", 2, "offloaded_outputs", name=name, output_data=VALUES))
    await send(admin, workflow_event("SUCCEEDED", 3, name, output_data=VALUES))
    assert executions.phases(name) == ["SUCCEEDED"] * 2


async def test_a_replica_that_dies_is_replaced_within_seconds(
    admin: AdminServiceStub, executions: Executions, parts: Parts
) -> None:
    name = executions.create()
    lane = lane_of("p", "d", name)
    dying = await Bus.connect(parts.nats_url, "executions")
    took = asyncio.Event()

    async def hang(_delivery: Delivery) -> None:
        took.set()
        await asyncio.Event().wait()

    await dying.declare_stream(BATCHES_STREAM)
    await dying.consume(BATCHES_STREAM, subject_of(lane), durable_of(lane), hang)
    sending = asyncio.create_task(send(admin, node_event("SUCCEEDED", name=name)))
    await asyncio.wait_for(took.wait(), SOON_SECONDS)
    await dying._client.close()  # like a killed process: nothing is acknowledged or returned

    def replaced() -> bool:
        return executions.phases(name) == ["UNDEFINED", "SUCCEEDED"]

    async with executions.replica():
        await until(replaced)
    await sending
    ((closure,),) = executions.rows("node_executions", "closure", name)
    assert NodeExecutionClosure.FromString(closure).phase == NodeExecution.SUCCEEDED  # type: ignore[arg-type]  # a row of unknown types


async def test_events_are_unavailable_without_nats_and_can_be_sent_again(
    parts: Parts, tmp_path: Path, executions: Executions
) -> None:
    port = free_port()
    settings = {"objects_url": executions.objects.uri(), "append_wait_seconds": 0.5, "verdict_wait_seconds": 5}
    with running_nats(tmp_path, port) as url:
        elsewhere = Parts(parts.postgres_url, url, parts.folder)
        running = service("events", elsewhere, "test_events_without_nats", **settings)
        served = await running.__aenter__()
    try:
        admin = AdminServiceStub(served.channel)
        name = executions.create()
        event = workflow_event("RUNNING", name=name)
        assert (await refused(admin, event)).code == Unavailable.code
        with running_nats(tmp_path, port) as url:
            async with Executions(executions.url, url, executions.objects).replica():
                await _again(admin, event)
            assert executions.phases(name) == ["RUNNING"]
            await running.__aexit__(None, None, None)
    except BaseException:
        await running.__aexit__(None, None, None)
        raise


async def _again(admin: AdminServiceStub, event: Event) -> None:
    """Retry as the engine does; a first attempt that arrived after all is recorded already."""
    async with asyncio.timeout(SOON_SECONDS):
        while True:
            try:
                return await send(admin, event)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    return None
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
