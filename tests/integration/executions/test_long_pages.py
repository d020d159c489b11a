"""Pages of many rows: their bytes are bounded, and few are read at the same time; tokens lead to all rows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetMetricsRequest
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionListRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.executions.store.node_executions import LISTING
from services.kit.db.database import Database
from services.kit.errors import ResourceExhausted
from services.kit.lists.pages import MOST_LONG_PAGE_BYTES, USUAL_BYTES, connection_for_page
from services.kit.lists.query import ListQuery
from services.kit.rpc import fairness
from services.kit.rpc.fairness import (
    CONNECTION_HEADER,
    LARGE_RESPONSE_BYTES,
    UNREAD_RESPONSES,
    set_client_connection,
)
from tests.support.entities import DOMAIN, PROJECT
from tests.support.execution_rows import execution
from tests.support.executions import execution_id
from tests.support.parts import Parts, Served
from tests.support.refusals import refused

HIGHEST_LIMIT = 2**32 - 1
# All at once they would be larger than a page, although none is larger than usual.
ROWS = MOST_LONG_PAGE_BYTES // USUAL_BYTES + 500
# As many as the console requests at once.
CONSOLE_ROWS, CONSOLE_ROW_BYTES = 10_000, 1_000
# Their closures would be some 100 MiB in memory.
METRICS_ROWS = 13_000
_FILL = """
INSERT INTO node_executions (created_at, execution_project, execution_domain, execution_name, node_id, phase, closure,
    node_execution_metadata, internal_data)
SELECT now(), %s, %s, %s, 'n' || number, 'SUCCEEDED', %s, ''::bytea, '\\x0801'::bytea
FROM generate_series(1, %s) AS number
"""


async def _fill(database: psycopg.AsyncConnection[Any], name: str, rows: int, size: int) -> NodeExecutionListRequest:
    await execution(database, name)
    closure = NodeExecutionClosure(deck_uri="d" * size).SerializeToString()
    await database.execute(_FILL, (PROJECT, DOMAIN, name, closure, rows))
    return NodeExecutionListRequest(workflow_execution_id=execution_id(name), limit=HIGHEST_LIMIT)


@pytest.fixture(name="receiving")
async def _receiving(served: Served) -> AsyncIterator[AdminServiceStub]:
    """Yield a client that receives responses of any size."""
    async with grpc.aio.insecure_channel(
        served.settings.grpc_address, [("grpc.max_receive_message_length", -1)]
    ) as channel:
        yield AdminServiceStub(channel)


async def test_page_of_many_usual_rows_ends_early_and_its_token_continues(
    receiving: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    request = await _fill(database, "long_page", ROWS, USUAL_BYTES - 200)
    page = await receiving.ListNodeExecutions(request)
    assert MOST_LONG_PAGE_BYTES * 0.9 < page.ByteSize() <= MOST_LONG_PAGE_BYTES * 1.01
    request.token = page.token
    rest = await receiving.ListNodeExecutions(request)
    names = {row.id.node_id for row in [*page.node_executions, *rest.node_executions]}
    assert (len(names), rest.token) == (ROWS, "")


async def test_page_is_shorter_while_other_clients_leave_much_unread(
    receiving: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    request = await _fill(database, "short_of_memory", ROWS, USUAL_BYTES - 200)
    left = UNREAD_RESPONSES.left
    UNREAD_RESPONSES.add("other", left)
    try:
        page = await receiving.ListNodeExecutions(request)
    finally:
        UNREAD_RESPONSES.add("other", -left)
    assert LARGE_RESPONSE_BYTES * 0.9 < page.ByteSize() <= LARGE_RESPONSE_BYTES * 1.01
    assert page.token == str(len(page.node_executions))


async def test_page_of_the_console_stays_whole(
    receiving: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    request = await _fill(database, "console_page", CONSOLE_ROWS, CONSOLE_ROW_BYTES)
    page = await receiving.ListNodeExecutions(request)
    assert (len(page.node_executions), page.token) == (CONSOLE_ROWS, "")


async def test_metrics_of_too_many_bytes_in_usual_rows_are_resource_exhausted(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await _fill(database, "large_metrics", METRICS_ROWS, USUAL_BYTES - 200)
    request = WorkflowExecutionGetMetricsRequest(id=execution_id("large_metrics"), depth=5)
    await refused(admin.GetExecutionMetrics(request), grpc.StatusCode.RESOURCE_EXHAUSTED, "too large")


@pytest.fixture(name="pool")
async def _pool(parts: Parts) -> AsyncIterator[Database]:
    opened = await Database.open(parts.new_database("long_pages"))
    yield opened
    await opened.close()


def _query(limit: int) -> ListQuery:
    return LISTING.query(name="x", limit=limit, token="", filters="", sort_key=None)


async def _read(pool: Database, client: str, limit: int) -> None:
    set_client_connection({CONNECTION_HEADER: client})
    async with connection_for_page(pool, _query(limit)) as connection:
        await connection.execute("SELECT 1")


async def test_few_long_pages_are_read_at_the_same_time(pool: Database) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            set_client_connection({CONNECTION_HEADER: "a"})
            await stack.enter_async_context(connection_for_page(pool, _query(HIGHEST_LIMIT)))
        third = asyncio.create_task(_read(pool, "a", HIGHEST_LIMIT))
        await asyncio.create_task(_read(pool, "b", HIGHEST_LIMIT))  # another client does not wait
        await asyncio.create_task(_read(pool, "a", 100))  # nor a short page
        assert not third.done()
    await third


async def test_long_page_waits_for_a_client_that_does_not_read(pool: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "_READ_SECONDS", 0.05)
    UNREAD_RESPONSES.add("a", 1 << 30)
    try:
        with pytest.raises(ResourceExhausted, match="unread"):
            await asyncio.create_task(_read(pool, "a", HIGHEST_LIMIT))
    finally:
        UNREAD_RESPONSES.add("a", -(1 << 30))
