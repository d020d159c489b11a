"""The end of a service's process, on real PostgreSQL and NATS."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack

from services.kit.process.service import App, serve
from services.kit.process.service import Parts as Connections
from services.kit.process.settings import ProcessSettings
from services.kit.rpc.table import Table
from tests.support.parts import Parts, free_port, migrations_of


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
