"""The life of a service, on real PostgreSQL and NATS: how it ends."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack

from services.kit.process.service import App, serve
from services.kit.process.service import Parts as Ground
from services.kit.process.settings import ProcessSettings
from services.kit.rpc.table import Table
from tests.support.parts import Parts, free_port, migrations_of


async def serving(parts: Parts, loop: Callable[[], Coroutine[None, None, None]], ending: asyncio.Event) -> None:
    url = await asyncio.to_thread(parts.migrated_database, "projects", "process")
    settings = ProcessSettings(
        database_url=url,
        nats_url=parts.nats_url,
        grpc_address=f"127.0.0.1:{free_port()}",
        lean_address=f"127.0.0.1:{free_port()}",
        http_address=f"127.0.0.1:{free_port()}",
        drain_seconds=1,
    )

    async def build(_settings: ProcessSettings, _ground: Ground, _stack: AsyncExitStack) -> App:
        return App(Table(), services=[], loops=[loop])

    await serve("projects", settings, build, migrations_of("projects"), ending)


async def test_a_loop_whose_first_cancellation_is_lost_ends_with_its_service(parts: Parts) -> None:
    ending = asyncio.Event()

    async def deaf_once() -> None:
        ending.set()
        with contextlib.suppress(asyncio.CancelledError):  # as the NATS client does while it flushes
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        await serving(parts, deaf_once, ending)
