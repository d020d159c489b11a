"""The HTTP server with clients that are slow or send too much."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.kit.process.http_server import HttpServer
from tests.support.parts import free_port
from tests.support.waiting import until

SHORT = 0.3
LONG = 30.0
MORE_THAN_SERVED = 600
UPLOAD_HEAD = b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"


@asynccontextmanager
async def running_server(idle_seconds: float = SHORT) -> AsyncIterator[int]:
    async def ready() -> str:
        return ""

    async def echo_body(request: Request) -> Response:
        try:
            return PlainTextResponse(await request.body())
        except ClientDisconnect:
            return PlainTextResponse("broke off", status_code=400)

    port = free_port()
    served = HttpServer(f"127.0.0.1:{port}", ready, [Route("/echo", echo_body, methods=["PUT"])], idle_seconds)
    serving = asyncio.create_task(served.serve())
    await until(lambda: served.server.started)
    try:
        yield port
    finally:
        served.stop(SHORT)
        await serving


async def send(port: int, *pieces: bytes, pause: float = 0) -> bytes:
    """Send pieces; return what is received until the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        async with asyncio.timeout(10 * SHORT):
            return await reader.read()
    except ConnectionError:  # it was closed before all was sent
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("data", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-more: "])
async def test_headers_that_do_not_arrive_end_the_connection(data: bytes) -> None:
    async with running_server() as port:
        assert await send(port, data) == b""


async def test_headers_that_arrive_slowly_end_the_connection() -> None:
    async with running_server() as port:
        drops = [b"GET /healthz HTTP/1.1\r\n", *[b"x-drop: x\r\n"] * 10]
        assert await send(port, *drops, pause=SHORT / 5) == b""


async def test_headers_above_the_limit_end_the_connection() -> None:
    async with running_server() as port:
        filler = [b"x-filler: xxxxxxxxxxxxxxxxxxxxxxxx\r\n" * 10_000] * 10
        assert await send(port, b"GET /healthz HTTP/1.1\r\n", *filler, b"\r\n") == b""


async def test_a_body_that_rests_is_aborted_and_one_that_moves_is_not() -> None:
    async with running_server() as port:
        assert b"broke off" in await send(port, UPLOAD_HEAD + b"half")
        moving = [UPLOAD_HEAD.replace(b"host", b"connection: close\r\nhost"), *[b"x"] * 10]
        assert (await send(port, *moving, pause=SHORT / 5)).endswith(b"x" * 10)


async def test_a_connection_serves_further_requests() -> None:
    async with running_server() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            assert (await client.get("/healthz")).text == "ok"
            await asyncio.sleep(SHORT / 2)


async def test_incomplete_uploads_of_one_client_block_neither_probes_nor_others() -> None:
    async with running_server(LONG) as port:
        begun = UPLOAD_HEAD.replace(b"\r\n\r\n", b"\r\nx-flyteplane-connection: flood\r\n\r\n")
        flood = []
        try:
            for _ in range(MORE_THAN_SERVED):
                flood.append(await asyncio.open_connection("127.0.0.1", port))
                flood[-1][1].write(begun)
            refused, _ = await asyncio.wait([asyncio.create_task(reader.read()) for reader, _ in flood], timeout=SHORT)
            assert refused
            assert all(response.result().startswith(b"HTTP/1.1 503 ") for response in refused)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as other:
                assert (await other.put("/echo", content=b"whole")).text == "whole"
                assert (await other.get("/readyz")).status_code == 200
        finally:
            for _, writer in flood:
                writer.close()
