"""Attack: bodies that are too large, never whole, or expensive to read; others must not notice."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from flyteidl.service import dataproxy_pb2, dataproxy_pb2_grpc

from deploy.sandbox.layout import Layout
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

MIB = 1 << 20
TASKS = "/api/v1/tasks"
CREATE_TASK = "/flyteidl.service.AdminService/CreateTask"
JSON, BINARY, GRPC = "application/json", "application/octet-stream", "application/grpc"
LONGEST_ANSWER = 2.0  # seconds, of others meanwhile
# Beside what Envoy needs by itself: what it holds when it begins to reset streams, which is 40 % of its heap, what
# comes until they are reset, what has just been freed, and the scripts.
MOST_GROWTH = 512 * MIB
STATS_AT_REST = r"^http\.front\.downstream_rq_active$|stop_accepting_requests\.active$"


def memory(sandbox: Sandbox) -> int:
    """Bytes that Envoy has in memory."""
    status = Path(f"/proc/{sandbox.pid('envoy')}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@contextlib.asynccontextmanager
async def unnoticed(sandbox: Sandbox) -> AsyncIterator[None]:
    """Ask all the time, and look whether every answer came in time and Envoy stayed small."""
    before = peak = memory(sandbox)
    slowest = 0.0

    async def others() -> None:
        nonlocal slowest, peak
        async with httpx.AsyncClient(base_url=sandbox.url, timeout=30) as client:
            while True:
                began = time.monotonic()
                assert (await client.get("/api/v1/projects")).is_success
                slowest, peak = max(slowest, time.monotonic() - began), max(peak, memory(sandbox))
                await asyncio.sleep(0)

    asking = asyncio.create_task(others())
    try:
        yield
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    assert slowest < LONGEST_ANSWER
    assert peak - before < MOST_GROWTH


class Sender:
    """One HTTP/1.1 request, sent as an attacker likes."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._port = sandbox.port

    async def begin(self, path: str, kind: str, length: str) -> None:
        """Send the head of a request; `length` is the header that tells how long its body is."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n{length}\r\n\r\n"
        self._writer.write(head.encode())

    async def send(self, body: bytes, piece: int) -> None:
        """Send a chunked body without its end, until the gateway hangs up."""
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(body), piece):
                part = body[at : at + piece]
                self._writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await self._writer.drain()

    async def end(self) -> None:
        """Send the end of a chunked body."""
        self._writer.write(b"0\r\n\r\n")

    async def answered(self, seconds: float) -> str:
        """Return what came, head and body, or nothing when the gateway hung up."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(seconds):
                return (await self._reader.read(65536)).decode()
        return ""

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@pytest.mark.parametrize("kind", [JSON, BINARY])
async def test_a_body_that_tells_it_is_too_large_is_refused_at_once(attacked: Sandbox, kind: str) -> None:
    senders = [Sender(attacked) for _ in range(4)]
    async with unnoticed(attacked):
        for sender in senders:
            await sender.begin(TASKS, kind, "content-length: 60000000")
        for answer in await asyncio.gather(*(sender.answered(LONGEST_ANSWER) for sender in senders)):
            assert answer.startswith("HTTP/1.1 413 ")
            assert '"code":8' in answer or kind == BINARY
            assert "Received message larger than max (60000000 vs. " in answer
    for sender in senders:
        sender.close()


@pytest.mark.parametrize("kind", [JSON, BINARY])
async def test_a_body_that_comes_in_chunks_is_refused_when_too_much_has_come(attacked: Sandbox, kind: str) -> None:
    senders = [Sender(attacked) for _ in range(4)]
    async with unnoticed(attacked):
        for sender in senders:
            await sender.begin(TASKS, kind, "transfer-encoding: chunked")
        answers = [asyncio.create_task(sender.answered(20)) for sender in senders]
        await asyncio.gather(*(sender.send(bytes(60 * MIB), MIB) for sender in senders))
        assert [(await answer)[:13] for answer in answers] == ["HTTP/1.1 413 "] * 4
    for sender in senders:
        sender.close()


@pytest.mark.parametrize(
    "body",
    [bytes(4 * MIB), b"[" * 4 * MIB, b'{"a":' * (MIB // 2), b'"' + b"x" * 4 * MIB, b" " * 4 * MIB, b"7" * 4 * MIB],
)
async def test_nonsense_in_small_pieces_is_read_in_no_time(attacked: Sandbox, body: bytes) -> None:
    sender = Sender(attacked)
    async with unnoticed(attacked):
        await sender.begin(TASKS, JSON, "transfer-encoding: chunked")
        await sender.send(body, 1000)
        await sender.end()
        assert (await sender.answered(LONGEST_ANSWER)).startswith("HTTP/1.1 400 ")
    sender.close()


def at_rest(sandbox: Sandbox) -> list[str]:
    """Return how many requests are under way, and whether Envoy refuses new ones for lack of memory."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(Layout(sandbox.folder).admin_socket))) as client:
        stats = client.get("http://envoy/stats", params={"filter": STATS_AT_REST}).text
    return [line.rpartition(" ")[2] for line in stats.splitlines()]


async def test_many_bodies_that_are_never_whole_level_out(attacked: Sandbox) -> None:
    body = b'{"a":"' + b"x" * (4 * MIB - 100)
    message = b"\x00" + (4 * MIB - 100).to_bytes(4, "big") + bytes(2 * MIB)
    before, peaks = memory(attacked), []
    for _ in range(3):
        senders = [Sender(attacked) for _ in range(150)]
        async with unnoticed(attacked):
            for number, sender in enumerate(senders):
                await sender.begin(
                    *((TASKS, JSON) if number % 2 else (CREATE_TASK, GRPC)), "transfer-encoding: chunked"
                )
            await asyncio.gather(
                *(sender.send(body if number % 2 else message, MIB // 4) for number, sender in enumerate(senders))
            )
            peaks.append(memory(attacked))
        for sender in senders:
            sender.close()
        await until(lambda: all(value == "0" for value in at_rest(attacked)), 30)
    assert max(peaks) - before < MOST_GROWTH


async def test_a_body_that_stalls_is_not_waited_for(attacked: Sandbox) -> None:
    """By REST, and by gRPC for what nobody answers before it is whole."""
    stalled = [
        (TASKS, JSON),
        (TASKS, BINARY),
        ("/grpc.health.v1.Health/Check", GRPC),
        ("/flyteidl.service.AdminService/MakeCoffee", GRPC),
    ]
    senders = [Sender(attacked) for _ in stalled]
    for sender, (path, kind) in zip(senders, stalled, strict=True):
        await sender.begin(path, kind, "transfer-encoding: chunked")
        await sender.send(b"\x00\x00", 2)
    answers = await asyncio.gather(*(sender.answered(20) for sender in senders))
    assert [answer[:13] for answer in answers[:2]] == ["HTTP/1.1 408 "] * 2
    assert all("grpc-status" in answer for answer in answers[2:])
    for sender in senders:
        sender.close()


async def test_an_upload_of_any_size_passes_and_is_kept_nowhere(attacked: Sandbox) -> None:
    pieces, piece = 400, bytes(MIB)
    async with grpc.aio.insecure_channel(attacked.target) as channel:
        location = await dataproxy_pb2_grpc.DataProxyServiceStub(channel).CreateUploadLocation(
            dataproxy_pb2.CreateUploadLocationRequest(
                project="flytesnacks", domain="development", filename="large", filename_root="r"
            )
        )

    async def content() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield piece

    before = memory(attacked)
    async with unnoticed(attacked), httpx.AsyncClient(timeout=60) as client:
        headers = {"content-length": str(pieces * MIB)}
        assert (await client.put(location.signed_url, content=content(), headers=headers)).status_code == 200
        assert memory(attacked) - before < 32 * MIB
