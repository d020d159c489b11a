"""The readiness and the end of a service's process, on real PostgreSQL and NATS."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from services.kit.process.service import App, Connections, serve
from services.kit.process.settings import ProcessSettings
from services.kit.rpc.table import Table
from tests.support.parts import Parts, free_port, migrations_of, service


async def serving(parts: Parts, loop: Callable[[], Coroutine[None, None, None]], stopping: asyncio.Event) -> None:
    url = await asyncio.to_thread(parts.migrated_database, "projects", "process")
    settings = ProcessSettings(
        database_url=url,
        nats_url=parts.nats_url,
        grpc_address=f"127.0.0.1:{free_port()}",
        http2_address=f"127.0.0.1:{free_port()}",
        http_address=f"127.0.0.1:{free_port()}",
        drain_seconds=1,
    )

    async def build(_settings: ProcessSettings, _connections: Connections, _stack: AsyncExitStack) -> App:
        return App(Table(), services=[], loops=[loop])

    await serve("projects", settings, build, migrations_of("projects"), stopping)


async def test_a_loop_that_drops_a_cancellation_ends_with_its_service(parts: Parts) -> None:
    stopping = asyncio.Event()

    async def drop_once() -> None:
        stopping.set()
        with contextlib.suppress(asyncio.CancelledError):  # as the NATS client does while it flushes
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        await serving(parts, drop_once, stopping)


def cut_off(parts: Parts, database: str) -> None:
    with psycopg.connect(parts.postgres_url, autocommit=True) as connection:
        name = sql.Identifier(database)
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])


@pytest.mark.parametrize("name", ["registry", "projects"])
async def test_a_service_without_its_database_is_not_ready(name: str, parts: Parts, tmp_path: Path) -> None:
    settings = {"objects_url": tmp_path.as_uri()} if name == "registry" else {}
    database = f"readiness_{name}"
    async with service(name, parts, database, **settings) as served, httpx.AsyncClient() as client:
        assert (await client.get(f"{served.http_url}/readyz")).text == "ready"
        await asyncio.to_thread(cut_off, parts, database)
        async with asyncio.timeout(10):
            while (response := await client.get(f"{served.http_url}/readyz")).is_success:  # cached for a second
                pass
        assert response.text.startswith("not ready: the database")
