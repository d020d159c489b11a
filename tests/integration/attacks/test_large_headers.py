"""Attack: large headers that cost their sender little; other clients must not notice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import grpc
import httpx
import pytest
from flyteidl.admin.project_pb2 import ProjectListRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from hpack import Encoder

from services.kit.http2.frames import ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, SETTINGS, frame
from tests.support.http2_client import Client, settings
from tests.support.sandbox import Sandbox

KIB = 1 << 10
FIELD = ("x-large", ":&" * 1850)  # just fits into a dynamic table of 4 KiB, and its Huffman code is as long
ALLOWED, TOO_LARGE = 4, 5  # such fields in a request, at 16 KiB
STREAMS = 200
CALLS = 5
LONGEST_CALL = 2.0  # seconds
COMPRESSION_ERROR = 9


class Attacker(Client):
    """A client that sends one large field once, and then by its index of one byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._encoder = Encoder()
        self._numbers: Iterator[int] = iter(range(1, 1 << 30, 2))

    def request(self, fields: int) -> int:
        """Send a request with so many large fields; return its stream."""
        headers = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost")]
        headers += [(":path", "/flyteidl.service.AdminService/ListProjects"), ("content-type", "application/grpc")]
        block = self._encoder.encode([*headers, ("te", "trailers"), *[FIELD] * fields])
        number = next(self._numbers)
        self.send(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
        return number


@contextlib.asynccontextmanager
async def attacking(sandbox: Sandbox) -> AsyncIterator[Attacker]:
    """Connect as a client that does not acknowledge the gateway's settings, so it may use a dynamic table."""
    attacker = Attacker(*await asyncio.open_connection("127.0.0.1", sandbox.port))
    attacker.send(PREFACE, settings())
    await attacker.until_frame(SETTINGS)
    try:
        yield attacker
    finally:
        attacker.writer.close()


async def test_large_headers_of_a_connection_hold_up_no_other(attacked: Sandbox) -> None:
    async def attack(attacker: Attacker) -> None:
        unanswered = {attacker.request(ALLOWED) for _ in range(STREAMS)}
        while True:
            await attacker.next()
            for number in [number for number in unanswered if number in attacker.streams]:
                if attacker.streams.pop(number).ended:
                    unanswered.remove(number)
                    unanswered.add(attacker.request(ALLOWED))

    async with attacking(attacked) as attacker, attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        attack_ = asyncio.create_task(attack(attacker))
        for _ in range(CALLS):
            await admin.ListProjects(ProjectListRequest(limit=1), timeout=LONGEST_CALL)
        assert not attack_.done()
        attack_.cancel()


async def test_too_large_headers_are_refused(attacked: Sandbox) -> None:
    async with attacking(attacked) as attacker, asyncio.timeout(LONGEST_CALL):
        assert (await attacker.response(attacker.request(ALLOWED))).ended
        assert (await attacker.response(attacker.request(TOO_LARGE))).reset is not None
        assert (await attacker.response(attacker.request(ALLOWED))).ended
    async with httpx.AsyncClient(base_url=attacked.url) as client:
        for response in (
            await client.get("/api/v1/projects", headers={"x-large": "x" * 17 * KIB}),
            await client.get("/api/v1/projects", params={"x": "x" * 17 * KIB}),
        ):
            assert (response.status_code, response.json()["code"]) == (431, 8)


async def test_client_with_the_settings_has_no_dynamic_table(attacked: Sandbox) -> None:
    async with attacking(attacked) as attacker, asyncio.timeout(LONGEST_CALL):
        attacker.send(frame(SETTINGS, ACK))
        attacker.request(1)
        assert (await attacker.until_frame(GOAWAY)).payload[-1] == COMPRESSION_ERROR


@pytest.mark.parametrize("path", ["/api/v1/projects", "/api/v1/tasks/p/d"])
async def test_query_of_many_pairs_is_refused(attacked: Sandbox, path: str) -> None:
    async with httpx.AsyncClient(base_url=attacked.url) as client:
        assert (await client.get(f"{path}?{'_&' * 255}")).is_success
        response = await client.get(f"{path}?{'_&' * 256}")
    assert (response.status_code, response.json()["code"]) == (400, 3)
    assert response.json()["message"] == "the query has more than 256 pairs"


async def test_grpc_client_without_large_headers_is_served(attacked: Sandbox) -> None:
    async with grpc.aio.insecure_channel(attacked.target) as channel:
        for _ in range(2):  # the second one after the gateway's settings
            metadata = (("x-large", "x" * 15 * KIB),)
            await AdminServiceStub(channel).ListProjects(ProjectListRequest(limit=1), metadata=metadata)
