"""The HTTP server with clients that are slow or send too much."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from services.kit.process import http_server
from services.kit.process.http_server import HttpServer
from services.kit.rpc.fairness import TOTAL_TIME_FACTOR
from tests.support.parts import free_port
from tests.support.waiting import until

SHORT = 0.3
SHORTEST = 0.05
LONG = 30.0
MEBIBYTE = 1024 * 1024
MORE_THAN_SERVED = 600
DOWNLOAD = b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n"
UPLOAD_HEAD = b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"


@asynccontextmanager
async def running_server(idle_seconds: float = SHORT, ended: asyncio.Event | None = None) -> AsyncIterator[int]:
    async def ready() -> str:
        return ""

    async def echo_body(request: Request) -> Response:
        try:
            return PlainTextResponse(await request.body())
        except ClientDisconnect:
            return PlainTextResponse("broke off", status_code=400)

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MEBIBYTE)
            await asyncio.sleep(0)  # sending does not wait once the client is gone

    async def download(_: Request) -> Response:
        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await StreamingResponse(pieces())(scope, receive, send)
            finally:
                if ended is not None:
                    ended.set()

        return respond  # type: ignore[return-value]  # any ASGI application is a response

    port = free_port()
    routes = [Route("/echo", echo_body, methods=["PUT"]), Route("/endless", download)]
    served = HttpServer(f"127.0.0.1:{port}", ready, routes, idle_seconds)
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


async def test_a_target_above_the_limit_is_404() -> None:
    async with running_server() as port:
        for length, status in ((15, b"200"), (17, b"404")):
            target = b"/healthz?" + b"x" * 1024 * length
            response = await send(port, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert response.startswith(b"HTTP/1.1 " + status)


async def test_a_body_that_rests_is_aborted_and_one_that_moves_is_not() -> None:
    async with running_server() as port:
        assert b"broke off" in await send(port, UPLOAD_HEAD + b"half")
        moving = [UPLOAD_HEAD.replace(b"host", b"connection: close\r\nhost"), *[b"x"] * 10]
        assert (await send(port, *moving, pause=SHORT / 5)).endswith(b"x" * 10)


async def test_a_body_that_moves_too_slowly_is_aborted() -> None:
    async with running_server(SHORTEST) as port:
        drops = [UPLOAD_HEAD.replace(b"10", b"1000"), *[b"x"] * 100]
        response = await send(port, *drops, pause=SHORTEST / 5)
        assert response == b"" or b"broke off" in response  # it may be lost, as the client writes on


async def test_a_download_ends_that_is_read_too_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    # What fits into the buffers of both sockets must take no time.
    monkeypatch.setattr(http_server, "_LEAST_BYTES_PER_SECOND", 100 * MEBIBYTE)
    ended = asyncio.Event()
    async with running_server(SHORTEST, ended) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(DOWNLOAD)
        async with asyncio.timeout(LONG):
            await ended.wait()
        writer.close()


async def test_a_download_that_is_read_may_take_longer() -> None:
    ended = asyncio.Event()
    async with running_server(SHORTEST, ended) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(DOWNLOAD)
        longest = asyncio.get_running_loop().time() + 2 * TOTAL_TIME_FACTOR * SHORTEST
        while asyncio.get_running_loop().time() < longest:
            assert await reader.read(MEBIBYTE)
        assert not ended.is_set()
        writer.close()


async def test_an_idle_server_has_no_clock_and_ends_when_it_is_stopped() -> None:
    async def ready() -> str:
        return ""

    served = HttpServer(f"127.0.0.1:{free_port()}", ready, (), LONG)
    ticks: list[int] = []
    served.server.on_tick = ticks.append  # type: ignore[assignment,method-assign]  # uvicorn's, which its clock awaits
    serving = asyncio.create_task(served.serve())
    await until(lambda: served.server.started)
    served.stop(SHORT)
    async with asyncio.timeout(LONG):
        await serving
    assert ticks == []


async def test_a_connection_serves_further_requests() -> None:
    async with running_server() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            assert (await client.get("/healthz")).text == "ok"
            await asyncio.sleep(SHORT / 2)


async def test_uploads_do_not_take_the_capacity_of_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_UPLOADS", 1)
    async with running_server(LONG) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPLOAD_HEAD)
        async with asyncio.timeout(LONG):
            while (refused := await client.put("/echo", content=b"x")).status_code != 503:
                pass
        assert refused.headers["retry-after"] == "1"
        async with client.stream("GET", "/endless") as download:
            assert download.status_code == 200
        writer.close()


async def test_downloads_do_not_take_the_capacity_of_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_DOWNLOADS", 1)
    async with (
        running_server(LONG) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        client.stream("GET", "/endless"),
    ):
        assert (await client.get("/endless")).status_code == 503
        assert (await client.put("/echo", content=b"whole")).text == "whole"


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
