"""Large, too large and compressed messages through a real Envoy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from flyteidl.admin import (
    project_pb2,
    task_pb2,
)
from google.protobuf.json_format import MessageToDict

from gateway import filters
from gateway.descriptors import Form
from services.kit.http2.frames import INITIAL_WINDOW_SIZE
from tests.support import http2_client
from tests.support.echo_services import LARGEST
from tests.support.gateways import ADMIN, BIN, BINARY, MIB, Gateway


async def test_list_of_two_megabytes_arrives_in_every_form(gateway: Gateway) -> None:
    projects = project_pb2.Projects(
        projects=[project_pb2.Project(id=f"project-{number}", description="d" * 90) for number in range(20_000)]
    )
    gateway.services["projects"].handlers["ListProjects"] = lambda _: projects
    binary = await gateway.rest.get("/api/v1/projects", headers=BIN)
    assert binary.content == projects.SerializeToString()
    assert len(binary.content) > 2 * MIB
    json = await gateway.rest.get("/api/v1/projects")
    assert [project["id"] for project in json.json()["projects"]] == [project.id for project in projects.projects]
    assert await gateway.call("ListProjects", project_pb2.ProjectListRequest()) == projects


@pytest.mark.parametrize("size", [3 * MIB, 12 * MIB])
async def test_large_request_arrives_in_every_form(gateway: Gateway, size: int) -> None:
    request = task_pb2.TaskCreateRequest()
    request.spec.template.container.image = "i" * size
    body = request.SerializeToString()
    assert (await gateway.rest.post("/api/v1/tasks", content=body, headers={"content-type": BINARY})).is_success
    await gateway.call("CreateTask", request)
    if size < filters.LARGEST_JSON:
        assert (await gateway.rest.post("/api/v1/tasks", json=MessageToDict(request))).is_success
    calls = gateway.services["registry"].calls
    assert [call.request == request for call in calls] == [True] * (3 if size < filters.LARGEST_JSON else 2)


async def test_large_json_bodies_of_many_clients_share_a_budget(gateway: Gateway) -> None:
    large = {"spec": {"type": "t" * (filters.LARGEST_JSON // 2)}}
    small = {"spec": {"type": "t" * (filters.LARGE_JSON // 2)}}
    replies = await asyncio.gather(*(gateway.rest.post("/api/v1/tasks", json=large) for _ in range(8)))
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(refused) >= 4
    assert all(reply.json()["code"] == 8 and "too many large JSON bodies" in reply.text for reply in refused)
    assert all(reply.is_success for reply in replies if reply not in refused)
    assert (await gateway.rest.post("/api/v1/tasks", json=small)).is_success
    async with asyncio.timeout(10):
        while not (await gateway.rest.post("/api/v1/tasks", json=large)).is_success:
            pass


async def test_response_of_twenty_megabytes_arrives(gateway: Gateway) -> None:
    projects = project_pb2.Projects(projects=[project_pb2.Project(id=str(n), description="d" * MIB) for n in range(20)])
    gateway.services["projects"].handlers["ListProjects"] = lambda _: projects
    assert await gateway.call("ListProjects", project_pb2.ProjectListRequest()) == projects
    assert (await gateway.rest.get("/api/v1/projects", headers=BIN)).content == projects.SerializeToString()


async def test_request_over_the_size_limit_of_a_service_gets_grpcs_message(gateway: Gateway) -> None:
    request = task_pb2.TaskCreateRequest()
    request.spec.template.container.image = "i" * (LARGEST + 1)
    with pytest.raises(grpc.aio.AioRpcError, match="message larger than max") as caught:
        await gateway.call("CreateTask", request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not gateway.services["registry"].calls


async def test_compressed_request_is_read(gateway: Gateway) -> None:
    request = project_pb2.ProjectRegisterRequest(project=project_pb2.Project(id="p" * 1000))
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        await gateway.call("RegisterProject", request, compression=compression)
        assert gateway.newest_call("projects").request == request


@pytest.mark.parametrize(("kind", "form"), [("application/json", Form.JSON), (BINARY, Form.BINARY)])
@pytest.mark.parametrize("with_length", [True, False])
async def test_body_over_the_size_limit_is_refused_before_it_is_complete(
    gateway: Gateway, kind: str, form: Form, *, with_length: bool
) -> None:
    largest = filters.largest_body(form, LARGEST)
    length = f"content-length: {largest + 1}" if with_length else "transfer-encoding: chunked"
    url = gateway.rest.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n{length}\r\n\r\n".encode())
    if not with_length:
        piece = b"%x\r\n%s\r\n" % (MIB, bytes(MIB))
        with contextlib.suppress(ConnectionError):
            for _ in range(largest // MIB + 1):
                writer.write(piece)
                await writer.drain()
            writer.write(b"0\r\n\r\n")
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    writer.close()
    assert not gateway.services["registry"].calls


async def test_clients_that_do_not_read_stall_no_other_client(gateway: Gateway) -> None:
    large = project_pb2.Projects(projects=[project_pb2.Project(description="d" * MIB)] * 4)
    gateway.services["projects"].handlers["ListProjects"] = lambda _: large
    headers = {":method": "POST", ":scheme": "http", ":path": f"/{ADMIN}/ListProjects", ":authority": "localhost"}
    headers |= {"content-type": "application/grpc", "te": "trailers"}
    url = gateway.rest.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    client = http2_client.Client(reader, writer)
    await client.greet({INITIAL_WINDOW_SIZE: 0})
    lists = range(1, 60, 2)  # streams
    client.send(*(http2_client.request(stream, bytes(5), headers.items()) for stream in lists))
    async with asyncio.timeout(10):
        while len(gateway.services["projects"].calls) < len(lists):
            await gateway.call("GetProject", project_pb2.ProjectGetRequest())
    for _ in range(20):  # meanwhile the responses have come as far as the windows allow
        await gateway.call("GetProject", project_pb2.ProjectGetRequest(), timeout=2)
    writer.close()


async def test_upload_and_download_of_any_size_are_streamed(gateway: Gateway) -> None:
    piece = b"\x00\xffpiece of 64 KiB" * (1 << 12)

    async def pieces() -> AsyncIterator[bytes]:
        yield piece
        # A gateway that collects the body first would wait here without end.
        async with asyncio.timeout(5):
            await gateway.objects.first_piece_arrived.wait()
        for _ in range(399):
            yield piece

    target = "/objects/a/b%20c?signature=x%2By&expires=1"
    kinds = {"content-type": BINARY, "accept": BINARY, "content-md5": "m=="}
    assert (await gateway.rest.put(target, content=pieces(), headers=kinds)).status_code == 200
    assert gateway.objects.objects == {target: piece * 400}
    reply = await gateway.rest.get(target)
    assert reply.content == piece * 400
