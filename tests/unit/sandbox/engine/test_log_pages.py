"""Logs as pages: many followers, and readers that do not read, take none of them from others."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier

from deploy.sandbox.engine.log_files import LogFiles
from deploy.sandbox.engine.pages import Pages
from deploy.sandbox.engine.run import Run
from deploy.sandbox.engine.runs import Ends, RunFolder, Runs
from services.contracts.engine import EngineInputs, RunRequest
from services.kit.process.http_server import HttpServer
from tests.support.parts import free_port
from tests.support.waiting import until

NAMES = ("p", "d", "e", "n0", "0")
PATH = "/logs/" + "/".join(NAMES)
FOLLOW = f"GET {PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
# The server takes 250 requests at a time.
MANY = 300


async def _never(_request: RunRequest, _folder: RunFolder) -> Run:
    await asyncio.Event().wait()
    raise AssertionError


async def _cause(_execution: WorkflowExecutionIdentifier) -> str:
    return ""


async def _reported(_execution: WorkflowExecutionIdentifier, _phase: object, _error: ExecutionError) -> None:
    pass


async def _ready() -> str:
    return ""


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    runs = Runs(tmp_path / "runs", _never, _cause, _reported, lambda _execution: None, Ends())
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name="e")
    inputs, now = EngineInputs(TaskResourceAttributes()), datetime.now(UTC)
    runs.run(RunRequest(execution, Identifier(), ExecutionSpec(), WorkflowExecutionConfig(), "", inputs, now))
    folder = LogFiles(tmp_path / "attempts").attempt(NAMES)
    folder.make()
    folder.log.write_text("printed")
    found = free_port()
    server = HttpServer(f"127.0.0.1:{found}", _ready, Pages(runs, tmp_path / "attempts", str, str).routes)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.server.started)
    yield found
    await runs.close()  # followers end with it
    server.stop(0.0)
    await serving


async def get(port: int, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://localhost:{port}", timeout=30.0) as client:
        return await client.get(path)


async def test_many_followers_leave_the_other_pages_to_others(port: int) -> None:
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MANY)]
    for _, writer in connections:
        writer.write(FOLLOW)
    heads = [await reader.readuntil(b"\r\n\r\n") for reader, _ in connections]
    assert {head.split()[1] for head in heads} == {b"200", b"503"}
    assert heads[0].startswith(b"HTTP/1.1 200")
    refused = await get(port, PATH)
    assert (refused.status_code, "follow=false" in refused.text) == (503, True)
    assert (await get(port, f"{PATH}?follow=false")).text == "printed"
    assert json.loads((await get(port, "/runs")).text)["runs"][0]["execution"] == "p/d/e"
    for _, writer in connections:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in connections), return_exceptions=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30.0):  # the server notices one after the other that they are gone
        while True:
            writer.write(FOLLOW)
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 200"):
                break
            await reader.readuntil(b"later.\n")
    writer.close()


async def test_missing_log_is_not_found_with_a_reason(port: int) -> None:
    missing = await get(port, "/logs/p/d/e/n0/1")
    assert (missing.status_code, missing.text) == (
        404,
        "Attempt 1 of node n0 of p/d/e has no log yet: its task has not started.\n",
    )
    assert (await get(port, "/logs/p/d/x/n0/" + "%C3%A9" * 2000)).status_code == 404
