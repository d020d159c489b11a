"""Resources created on an API server at a rate, by another process than the services: the load of a cluster alone.

The API server is on the machine of the measurement and takes a quarter of it, which delays launches whatever process
sends the requests. This load says how much of their latency that is.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from services.executions.engine.kubernetes.engine import FLYTE_WORKFLOW
from services.kit.kubernetes.access import from_files
from services.kit.kubernetes.client import KubernetesClient, Object
from tests.support.real_api_servers import RealApiServer

_END_SECONDS = 10.0


@contextmanager
def resources_created(server: RealApiServer, namespace: str, like: str, rate: float) -> Iterator[None]:
    """Create copies of the resource `like` at `rate` a second during the block, in a process of their own."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_create_copies, args=(dict(server.settings), namespace, like, rate), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join(_END_SECONDS)


def _create_copies(server: dict[str, str], namespace: str, like: str, rate: float) -> None:
    uvloop.run(_create(server, namespace, like, rate))


async def _create(server: dict[str, str], namespace: str, like: str, rate: float) -> None:
    files = {"authorities": Path(server["ca_file"]), "token": Path(server["token_file"])}
    client = KubernetesClient.open(partial(from_files, server["server"], **files))
    original = await client.get(FLYTE_WORKFLOW, namespace, like)
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        number = 0
        while True:
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            group.create_task(client.create(FLYTE_WORKFLOW, namespace, _copy(original, f"copy{number}")))
            number += 1


def _copy(original: Object, name: str) -> dict[str, Any]:
    kept = {key: original["metadata"][key] for key in ("labels", "annotations") if key in original["metadata"]}
    return {**original, "metadata": {**kept, "name": name, "namespace": original["metadata"]["namespace"]}}
