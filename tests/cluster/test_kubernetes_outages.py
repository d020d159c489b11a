"""Launches while the API server is down for a minute: all run afterwards, each once."""

import asyncio
import time

from services.executions.engine.kubernetes.engine import FLYTE_WORKFLOW
from tests.support.control_planes import ControlPlane, control_plane
from tests.support.flyte_workflows import create_namespace, eventually
from tests.support.parts import Parts
from tests.support.real_api_servers import RealApiServer

NAMESPACE = "outage"
RATE = 50
BEFORE_SECONDS, DOWN_SECONDS, AFTER_SECONDS = 5, 60, 5
# Of thousands of executions that wait.
CATCHING_UP_SECONDS = 120.0


async def test_server_down_for_a_minute_loses_and_doubles_nothing(parts: Parts, api_server: RealApiServer) -> None:
    client = api_server.client()
    await create_namespace(client, NAMESPACE)
    async with control_plane(parts, "outage", [api_server.settings], NAMESPACE) as plane:
        launching = asyncio.create_task(launch_all(plane, BEFORE_SECONDS + DOWN_SECONDS + AFTER_SECONDS))
        await asyncio.sleep(BEFORE_SECONDS)
        await asyncio.to_thread(api_server.stop)
        await asyncio.sleep(DOWN_SECONDS)
        await asyncio.to_thread(api_server.start)
        names = await launching

        async def all_created() -> bool:
            return await client.names(FLYTE_WORKFLOW, NAMESPACE) == names

        await eventually(all_created, CATCHING_UP_SECONDS)
        rows = await plane.rows("execution_name, phase")
        assert rows == [(name, "UNDEFINED") for name in sorted(names)]
    await client.close()


async def launch_all(plane: ControlPlane, seconds: int) -> set[str]:
    """Launch `RATE` executions a second, and return their names; every launch succeeds."""
    start = time.monotonic()
    names, calls = set(), set()
    for number in range(RATE * seconds):
        await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
        name = f"e{number:05}"
        names.add(name)
        call = asyncio.create_task(plane.launch(name))
        calls.add(call)
        call.add_done_callback(lambda done: calls.discard(done) if done.exception() is None else None)
    await asyncio.gather(*calls)
    return names
