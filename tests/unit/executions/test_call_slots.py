"""Calls that take much memory: few of them are served at the same time."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetMetricsRequest
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from services.executions.config import Settings
from services.executions.rpc.data import DataHandlers
from services.executions.rpc.execution_metrics import ExecutionMetricsHandlers
from services.executions.rules.data import Location
from services.kit.objects.store import ObjectStore
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.fairness import CONNECTION_HEADER, set_client_connection
from services.kit.rpc.table import Call

LARGE = "x" * (300 * 1024)
EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="e")


async def test_few_large_data_calls_are_served_at_the_same_time(tmp_path: Path) -> None:
    store = ObjectStore.open(f"file://{tmp_path}/objects", "http://localhost:30080", "key")
    large, small = LiteralMap(), LiteralMap()
    large.literals["a"].scalar.primitive.string_value = LARGE
    await store.put(store.uri("large"), large.SerializeToString())
    await store.put(store.uri("small"), small.SerializeToString())
    handlers = DataHandlers(None, store, CpuPool(), Settings.model_construct())  # type: ignore[arg-type]  # no rows here

    async def fetch(client: str, name: str) -> None:
        set_client_connection({CONNECTION_HEADER: client})
        async with handlers.fetched((Location(store.uri(name)),), Call()) as (data,):
            assert data.full is not None

    async with AsyncExitStack() as stack:
        set_client_connection({CONNECTION_HEADER: "a"})
        for _ in range(4):
            await stack.enter_async_context(handlers.fetched((Location(store.uri("large")),), Call()))
        fifth = asyncio.create_task(fetch("a", "large"))
        await asyncio.create_task(fetch("b", "large"))  # another client does not wait
        await asyncio.create_task(fetch("a", "small"))
        assert not fifth.done()
    await fifth


class _Database:
    """Counts reads, none of which ends before `ended`."""

    def __init__(self) -> None:
        self.reads = 0
        self.ended = asyncio.Event()

    def read(self) -> "_Database":
        return self

    async def __aenter__(self) -> None:
        self.reads += 1
        await self.ended.wait()
        raise ConnectionError

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_metrics_are_read_for_two_clients_once_each_at_the_same_time() -> None:
    database = _Database()
    handlers = ExecutionMetricsHandlers(database, None, None, CpuPool())  # type: ignore[arg-type]  # nothing is found

    async def call(client: str) -> None:
        set_client_connection({CONNECTION_HEADER: client})
        with pytest.raises(ConnectionError):
            await handlers.GetExecutionMetrics(WorkflowExecutionGetMetricsRequest(id=EXECUTION), Call())

    calls = [asyncio.create_task(call(client)) for client in ("a", "a", "b", "b", "c")]
    for _ in range(20):
        await asyncio.sleep(0)
    assert database.reads == 2  # as decision 0022 says
    database.ended.set()
    await asyncio.gather(*calls)
    assert database.reads == len(calls)
