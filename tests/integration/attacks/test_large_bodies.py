"""Attack: bodies that are too large, never complete, or expensive to read; other clients must not notice."""

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
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from deploy.sandbox.layout import Layout
from tests.support.entities import task
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

MIB = 1 << 20
TASKS = "/api/v1/tasks"
CREATE_TASK = "/flyteidl.service.AdminService/CreateTask"
JSON, BINARY, GRPC = "application/json", "application/octet-stream", "application/grpc"
LARGEST_BODY = 4 * MIB
UNFINISHED = 16  # of the largest bodies
LONGEST_ANSWER = 2.0  # seconds, of other clients' calls meanwhile
# In addition to what Envoy needs without load: its buffers when it begins to reset streams, which is 40 % of its heap,
# the bytes that come until they are reset, memory that has just been freed, and the scripts.
MOST_GROWTH = 512 * MIB
STATS_AT_REST = r"^http\.front\.downstream_rq_active$|stop_accepting_requests\.active$"


def memory(sandbox: Sandbox) -> int:
    """Return the resident memory of Envoy, in bytes."""
    status = Path(f"/proc/{sandbox.pid('envoy')}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident
    return int(resident[1]) * 1024


@contextlib.asynccontextmanager
async def unnoticed(sandbox: Sandbox) -> AsyncIterator[None]:
    """Call all the time, and check that every response came in time and Envoy stayed small."""
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
    """One HTTP/1.1 request, sent as an attacker would."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._port = sandbox.port

    async def begin(self, path: str, kind: str, length: str, method: str = "POST") -> None:
        """Send the head of a request; `length` is the header with the length of its body."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n{length}\r\n\r\n"
        self._writer.write(head.encode())

    async def send(self, body: bytes, piece: int) -> None:
        """Send a chunked body without its end, until the gateway closes the connection."""
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(body), piece):
                part = body[at : at + piece]
                self._writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await self._writer.drain()

    def write(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(b"".join(parts))

    async def end(self) -> None:
        """Send the end of a chunked body."""
        self._writer.write(b"0\r\n\r\n")

    async def response(self, seconds: float) -> str:
        """Return the response, head and body, empty when the gateway closed the connection."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(seconds):
                return (await self._reader.read(65536)).decode()
        return ""

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


@pytest.mark.parametrize("kind", [JSON, BINARY])
async def test_body_with_a_length_above_the_limit_is_refused_at_once(attacked: Sandbox, kind: str) -> None:
    senders = [Sender(attacked) for _ in range(4)]
    async with unnoticed(attacked):
        for sender in senders:
            await sender.begin(TASKS, kind, "content-length: 60000000")
        for response in await asyncio.gather(*(sender.response(LONGEST_ANSWER) for sender in senders)):
            assert response.startswith("HTTP/1.1 413 ")
            assert '"code":8' in response or kind == BINARY
            assert "Received message larger than max (60000000 vs. " in response
    for sender in senders:
        sender.close()


@pytest.mark.parametrize("kind", [JSON, BINARY])
async def test_body_in_chunks_is_refused_when_it_exceeds_the_limit(attacked: Sandbox, kind: str) -> None:
    senders = [Sender(attacked) for _ in range(4)]
    async with unnoticed(attacked):
        for sender in senders:
            await sender.begin(TASKS, kind, "transfer-encoding: chunked")
        responses = [asyncio.create_task(sender.response(20)) for sender in senders]
        await asyncio.gather(*(sender.send(bytes(60 * MIB), MIB) for sender in senders))
        assert [(await response)[:13] for response in responses] == ["HTTP/1.1 413 "] * 4
    for sender in senders:
        sender.close()


@pytest.mark.parametrize(
    "body",
    [
        bytes(4 * MIB),
        b"[" * 4 * MIB,
        b'{"a":' * (MIB // 2),
        b'"' + b"x" * (4 * MIB - 1),
        b" " * 4 * MIB,
        b"7" * 4 * MIB,
    ],
)
async def test_nonsense_in_small_pieces_is_read_at_once(attacked: Sandbox, body: bytes) -> None:
    async with unnoticed(attacked):
        response = "HTTP/1.1 429 "  # until the budget of large bodies has room
        while response.startswith("HTTP/1.1 429 "):
            sender = Sender(attacked)
            await sender.begin(TASKS, JSON, "transfer-encoding: chunked")
            await sender.send(body, 1000)
            await sender.end()
            response = await sender.response(LONGEST_ANSWER)
            sender.close()
    assert response.startswith("HTTP/1.1 400 ")


def json_of(shape: str) -> tuple[str, bytes]:
    """Return the path and the body of a request of nearly 4 MiB in very small parts."""
    if shape == "numbers":
        return TASKS, b'{"spec":{"template":{"custom":{"a":[' + b"1," * (2 * MIB - 50) + b"1]}}}}"
    entries = b",".join(b'"%06x":{}' % number for number in range(MIB // 3 - 100))
    return TASKS, b'{"spec":{"template":{"custom":{' + entries + b"}}}}"


@pytest.mark.parametrize("shape", ["numbers", "entries"])
async def test_bodies_of_small_parts_do_not_hold_up_others(attacked: Sandbox, shape: str) -> None:
    path, body = json_of(shape)
    async with unnoticed(attacked), httpx.AsyncClient(base_url=attacked.url, timeout=30) as client:
        headers = {"content-type": JSON}
        replies = await asyncio.gather(*(client.post(path, content=body, headers=headers) for _ in range(8)))
    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [(429, 8)] * 8


async def test_replies_of_small_parts_do_not_hold_up_others(attacked: Sandbox) -> None:
    path = "/api/v1/description_entities/TASK/flytesnacks/staging/dense/1"
    request = task("dense", {}, {}, version="1")
    request.id.domain = "staging"  # lists of the other domain, which other tests read, stay small
    request.spec.description.tags.extend([""] * 950_000)  # a request may have a million parts
    async with attacked.channel() as channel, httpx.AsyncClient(base_url=attacked.url, timeout=30) as client:
        await AdminServiceStub(channel).CreateTask(request)
        async with unnoticed(attacked):
            replies = await asyncio.gather(*(client.get(path) for _ in range(4)))
            assert {(reply.status_code, reply.json()["code"]) for reply in replies} == {(429, 8)}
            assert all("parts that it may have as JSON" in reply.text for reply in replies)
        assert len((await client.get(path, headers={"accept": BINARY})).content) > MIB


def at_rest(sandbox: Sandbox) -> list[str]:
    """Return the number of requests under way, and whether Envoy refuses new ones for lack of memory."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(Layout(sandbox.folder).admin_socket))) as client:
        stats = client.get("http://envoy/stats", params={"filter": STATS_AT_REST}).text
    return [line.rpartition(" ")[2] for line in stats.splitlines()]


async def test_memory_of_many_incomplete_bodies_levels_out(attacked: Sandbox) -> None:
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


async def is_read(client: httpx.AsyncClient, body: bytes) -> bool:
    """Return whether the gateway reads a body that is no message; it may close the connection when it refuses it."""
    with contextlib.suppress(httpx.TransportError):
        return (await client.post(TASKS, content=body, headers={"content-type": BINARY})).status_code == 400
    return False


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (JSON, f"content-length: {LARGEST_BODY}"),
        (BINARY, f"content-length: {LARGEST_BODY}"),
        (BINARY, "transfer-encoding: chunked"),
    ],
)
async def test_large_unfinished_bodies_share_a_budget(attacked: Sandbox, kind: str, length: str) -> None:
    senders = [Sender(attacked) for _ in range(UNFINISHED + 4)]
    async with unnoticed(attacked), httpx.AsyncClient(base_url=attacked.url) as client:
        for sender in senders[:UNFINISHED]:
            await sender.begin(TASKS, kind, length)
            sender.write(b"1000\r\n" if "chunked" in length else b"", bytes(4096))
        for sender in senders[UNFINISHED:]:
            await sender.begin(TASKS, kind, length)
            refusal = await sender.response(LONGEST_ANSWER)
            assert refusal.startswith("HTTP/1.1 429 ")
            assert "too many large bodies are unfinished" in refusal
        small = await client.post(TASKS, content=b"{" + b" " * 16_000 + b"}", headers={"content-type": JSON})
        assert small.status_code == 400
        for sender in senders:
            sender.close()

        async with asyncio.timeout(10):
            while not await is_read(client, bytes(LARGEST_BODY)):
                pass


@pytest.mark.parametrize("length", ["content-length: 4000000", "transfer-encoding: chunked"])
async def test_body_of_a_get_must_be_small(attacked: Sandbox, length: str) -> None:
    sender = Sender(attacked)
    await sender.begin("/api/v1/projects", JSON, length, "GET")
    sender.write(b"%x\r\n" % MIB, bytes(MIB))
    assert (await sender.response(LONGEST_ANSWER)).startswith("HTTP/1.1 413 ")
    sender.close()
    async with httpx.AsyncClient(base_url=attacked.url) as client:
        assert (await client.request("GET", "/api/v1/projects", content=b"x" * 1000)).is_success


async def test_body_that_stalls_times_out(attacked: Sandbox) -> None:
    """By REST, and by gRPC for methods that respond only to a complete request."""
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
    responses = await asyncio.gather(*(sender.response(20) for sender in senders))
    assert [response[:13] for response in responses[:2]] == ["HTTP/1.1 408 "] * 2
    assert all("grpc-status" in response for response in responses[2:])
    for sender in senders:
        sender.close()


async def test_upload_of_any_size_passes_without_being_buffered(attacked: Sandbox) -> None:
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
