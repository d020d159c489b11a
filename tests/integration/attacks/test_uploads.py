"""Attacks on uploads and downloads, through the gateway of a whole sandbox."""

import hashlib
import http.client
import os
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import grpc
import httpx
import pytest
from flyteidl.service.dataproxy_pb2 import (
    CreateDownloadLocationRequest,
    CreateUploadLocationRequest,
    CreateUploadLocationResponse,
)
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from deploy.sandbox.layout import Layout
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
SLOW_READERS = 20
# More than a process accepts at a time.
SLOW_WRITERS = 520
# So that few of them write to the same one.
WRITTEN_PATHS = 65
# The memory that an idle connection may take in each part; Envoy has a buffer of 1 MiB.
READER_BYTES = {"executions": 700 * KIBIBYTE, "envoy": 1500 * KIBIBYTE}


@pytest.fixture
async def proxy(attacked: Sandbox) -> AsyncIterator[DataProxyServiceStub]:
    async with attacked.channel() as channel:
        yield DataProxyServiceStub(channel)


def digest(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def upload_request(name: str, **fields: Any) -> CreateUploadLocationRequest:
    """Return a request for an upload location that only the test `name` uses."""
    return CreateUploadLocationRequest(**{"project": name, "domain": "d", **fields})


def put(location: CreateUploadLocationResponse, data: bytes) -> httpx.Response:
    return httpx.put(location.signed_url, content=data, headers=dict(location.headers))


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers)


def length(url: str) -> str:
    return str(httpx.head(url).headers["content-length"])


async def download(proxy: DataProxyServiceStub, uri: str) -> str:
    url: str = (await proxy.CreateDownloadLocation(CreateDownloadLocationRequest(native_url=uri))).signed_url
    return url


def stored(location: CreateUploadLocationResponse) -> bytes:
    return Path(location.native_url.removeprefix("file://")).read_bytes()


def files(attacked: Sandbox, below: str) -> list[Path]:
    return [path for path in (attacked.folder / "objects" / below).rglob("*") if path.is_file()]


async def test_signature_of_one_name_is_refused_for_another(proxy: DataProxyServiceStub) -> None:
    code = b"the victim's code"
    victim = await proxy.CreateUploadLocation(
        upload_request("forged", filename="script.tar.gz", content_md5=digest(code))
    )
    evil = digest(b"evil code").hex()
    for name in (f"script.tar.gz\n9999999999\n{evil}", f"script.tar.gz\n9999999999\n{evil}\n0"):
        request = upload_request("forged", filename=name, content_md5=digest(code))
        await refused(proxy.CreateUploadLocation(request), grpc.StatusCode.INVALID_ARGUMENT, "control character")
    url = urlsplit(victim.signed_url)
    unsigned = f"{url.scheme}://{url.netloc}{url.path}"
    query = parse_qs(url.query) | {"md5": [evil], "expires": ["9999999999"]}
    for other in (unsigned, f"{unsigned}?{urlencode(query, doseq=True)}"):
        assert put(CreateUploadLocationResponse(signed_url=other), b"evil code").status_code == 403
    assert get(victim.signed_url).status_code == 403
    assert put(victim, code).status_code == 200


PARTS = ("org", "project", "domain", "filename_root", "filename")
NO_PATHS = ("/", "..", "a/../b", "a//b", "/a", "a/", "a\\b", "a\x00b", "a\nb", "a\x7fb", "a\u2028b", "a" * 256)


@pytest.mark.parametrize("part", PARTS)
async def test_parts_that_form_no_path_are_refused(proxy: DataProxyServiceStub, part: str) -> None:
    values = [*NO_PATHS, *(["a/b"] if part in PARTS[:3] else ["/".join(["a" * 200] * 5)])]
    for value in values + (["@o"] if part == "project" else []):
        request = upload_request("refused", **{"filename_root": "r", "filename": "f", part: value})
        await refused(proxy.CreateUploadLocation(request), grpc.StatusCode.INVALID_ARGUMENT, "invalid uri")


async def test_uploads_of_different_callers_have_different_locations(proxy: DataProxyServiceStub) -> None:
    callers = [
        {"org": "a", "project": "b", "domain": "c", "filename_root": "d"},
        {"project": "a", "domain": "b", "filename_root": "c/d"},
        {"project": "a", "domain": "b", "filename_root": "c", "filename": "d/f"},
    ]
    first, *others = [
        (await proxy.CreateUploadLocation(upload_request("", **{"filename": "f", **caller}))).native_url
        for caller in callers
    ]
    assert first.endswith("/uploads/@a/b/c/d/f")
    assert all(other.endswith("/uploads/a/b/c/d/f") for other in others)


@pytest.mark.parametrize(
    "name",
    [
        "x#1",
        "a?b",
        "100%",
        "a%2Fb",
        "a%20b",
        "a+b",
        "a b",
        "naïve 文件.txt",
        "a;b=c&d",
        "~",
        "...",
        "é" * 127,
        "a" * 255,
    ],
)
async def test_file_of_any_other_name_is_uploaded_and_downloaded(proxy: DataProxyServiceStub, name: str) -> None:
    data = name.encode()
    location = await proxy.CreateUploadLocation(upload_request("named", filename=name, content_md5=digest(data)))
    assert location.native_url.endswith(f"/{name}")
    assert put(location, data).status_code == 200
    assert stored(location) == data
    response = get(await download(proxy, location.native_url))
    assert (response.status_code, response.content) == (200, data)
    again = await proxy.CreateUploadLocation(
        upload_request(
            "named", filename=name, filename_root=location.native_url.split("/")[-2], content_md5=digest(data)
        )
    )
    assert again.native_url == location.native_url
    assert put(again, data).status_code == 200


async def test_old_url_does_not_replace_a_later_upload(proxy: DataProxyServiceStub) -> None:
    request = upload_request("once", filename="script", filename_root="r")
    early, late = [await proxy.CreateUploadLocation(request) for _ in range(2)]
    assert put(late, b"what is meant").status_code == 200
    refused_put = put(early, b"something else")
    assert (refused_put.status_code, "file already exists" in refused_put.text) == (409, True)
    assert put(early, b"what is meant").status_code == 200
    assert get(await download(proxy, late.native_url)).content == b"what is meant"
    with_digest = upload_request("once", filename="script", filename_root="r", content_md5=digest(b"what is meant"))
    assert put(await proxy.CreateUploadLocation(with_digest), b"what is meant").status_code == 200
    with_digest.content_md5 = digest(b"something else")
    await refused(proxy.CreateUploadLocation(with_digest), grpc.StatusCode.ALREADY_EXISTS, "file already exists at")


async def test_one_of_racing_uploads_is_stored_whole(attacked: Sandbox, proxy: DataProxyServiceStub) -> None:
    location = await proxy.CreateUploadLocation(upload_request("race", filename="f", filename_root="r"))
    bodies = [bytes([number]) * MEBIBYTE for number in range(8)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        statuses = list(pool.map(lambda body: put(location, body).status_code, bodies))
    assert sorted(statuses) == [200, *[409] * 7]
    assert get(await download(proxy, location.native_url)).content == bodies[statuses.index(200)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        again = pool.map(lambda _: put(location, bodies[statuses.index(200)]).status_code, bodies)
    assert set(again) == {200}
    assert files(attacked, ".uploads") == []


async def test_file_replaces_no_folder_and_folder_no_file(proxy: DataProxyServiceStub) -> None:
    early = await proxy.CreateUploadLocation(upload_request("folders", filename="a/b", filename_root="r"))
    file = await proxy.CreateUploadLocation(upload_request("folders", filename="a", filename_root="r"))
    assert put(file, b"x").status_code == 200
    assert put(early, b"x").status_code == 409
    code = grpc.StatusCode.FAILED_PRECONDITION
    below = upload_request("folders", filename="a/b/c", filename_root="r")
    await refused(proxy.CreateUploadLocation(below), code, "a file is at")
    inner = await proxy.CreateUploadLocation(upload_request("folders", filename="x/y", filename_root="s"))
    outer = await proxy.CreateUploadLocation(upload_request("folders", filename="x", filename_root="s"))
    assert put(inner, b"x").status_code == 200
    response = put(outer, b"x")
    assert (response.status_code, "a folder is at" in response.text) == (409, True)
    await refused(
        proxy.CreateUploadLocation(upload_request("folders", filename="x", filename_root="s")), code, "a folder is at"
    )


async def test_refused_or_broken_upload_leaves_nothing(attacked: Sandbox, proxy: DataProxyServiceStub) -> None:
    location = await proxy.CreateUploadLocation(upload_request("broken", filename="f", content_md5=digest(b"right")))
    assert put(location, b"wrong").status_code == 400
    url = urlsplit(location.signed_url)
    for framing in (b"Content-Length: 10000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n100000\r\n"):
        with socket.create_connection(("localhost", attacked.port)) as connection:
            head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: localhost\r\n".encode()
            connection.sendall(head + framing + b"x" * MEBIBYTE)
    assert put(location, b"right").status_code == 200
    assert [path.name for path in files(attacked, "uploads/broken")] == ["f"]
    await until(lambda: not files(attacked, ".uploads"))


async def test_upload_above_the_size_limit_is_refused_by_its_length(
    attacked: Sandbox, proxy: DataProxyServiceStub
) -> None:
    location = await proxy.CreateUploadLocation(upload_request("large", filename="f", filename_root="r"))
    url = urlsplit(location.signed_url)
    connection = http.client.HTTPConnection("localhost", attacked.port, timeout=10)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    with suppress(ConnectionError):  # as clients do that send until they are stopped and read the response then
        connection.send(bytes(32 * MEBIBYTE))
    response = connection.getresponse()
    assert (response.status, b"too large" in response.read()) == (413, True)
    connection.close()
    assert files(attacked, "uploads/large") == []


async def test_uploaded_pages_run_in_a_sandbox(proxy: DataProxyServiceStub) -> None:
    for name, disposition in (("deck.html", None), ("page.svg", "attachment"), ("x.HTML", "attachment")):
        location = await proxy.CreateUploadLocation(upload_request("pages", filename=name, filename_root="r"))
        assert put(location, b"<script>").status_code == 200
        headers = get(await download(proxy, location.native_url)).headers
        policy = headers["content-security-policy"]
        assert "sandbox" in policy
        assert "allow-same-origin" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers.get("content-disposition", "").partition(";")[0] == (disposition or "")


@pytest.mark.parametrize(
    ("bytes_range", "status", "content"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=0-99", 206, b"0123456789"),
        ("bytes=10-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=99999999999999999999-", 416, None),
        ("bytes=4-2", 200, b"0123456789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=x", 200, b"0123456789"),
    ],
)
async def test_ranges_are_honoured(
    proxy: DataProxyServiceStub, bytes_range: str, status: int, content: bytes | None
) -> None:
    location = await proxy.CreateUploadLocation(
        upload_request("ranges", filename="f", content_md5=digest(b"0123456789"))
    )
    assert put(location, b"0123456789").status_code == 200
    url = await download(proxy, location.native_url)
    response = get(url, Range=bytes_range)
    assert response.status_code == status
    if content is not None:
        assert response.content == content
    if status == 206:
        first = b"0123456789".index(content or b"")
        assert response.headers["content-range"] == f"bytes {first}-{first + len(response.content) - 1}/10"
    if status == 416:
        assert response.headers["content-range"] == "bytes */10"
    assert length(url) == "10"


def resident(attacked: Sandbox, part: str) -> int:
    pages = int(Path(f"/proc/{attacked.pid(part)}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def slow_reader(attacked: Sandbox, path: str) -> Iterator[None]:
    """Run a client that reads only the head of the response."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIBIBYTE)
        connection.connect(("localhost", attacked.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(KIBIBYTE).startswith(b"HTTP/1.1 200")
        yield


async def test_slow_readers_cost_little_memory(attacked: Sandbox, proxy: DataProxyServiceStub) -> None:
    location = await proxy.CreateUploadLocation(upload_request("slow", filename="f", filename_root="r"))
    assert put(location, b"x" * MEBIBYTE).status_code == 200
    os.truncate(location.native_url.removeprefix("file://"), 400 * MEBIBYTE)
    url = urlsplit(await download(proxy, location.native_url))
    size = length(url.geturl())
    before = {part: resident(attacked, part) for part in READER_BYTES}
    with ExitStack() as stack:
        for _ in range(SLOW_READERS):
            stack.enter_context(slow_reader(attacked, f"{url.path}?{url.query}"))
        # Other clients are served meanwhile; by then everything that is read ahead has been read.
        assert {length(url.geturl()) for _ in range(50)} == {size}
        grown = {part: (resident(attacked, part) - before[part]) / SLOW_READERS for part in READER_BYTES}
    assert all(grown[part] < most for part, most in READER_BYTES.items()), grown


@contextmanager
def slow_writer(attacked: Sandbox, path: str) -> Iterator[None]:
    """Run a client that begins an upload and does not go on."""
    with socket.create_connection(("localhost", attacked.port)) as connection:
        connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx".encode())
        yield


async def test_probes_succeed_while_uploads_take_all_capacity(attacked: Sandbox, proxy: DataProxyServiceStub) -> None:
    names = [upload_request("writers", filename=f"f{number}", filename_root="r") for number in range(WRITTEN_PATHS)]
    locations = [await proxy.CreateUploadLocation(name) for name in names]
    urls = [urlsplit(location.signed_url) for location in locations]
    settings = Layout(attacked.folder).environments / "executions.env"
    (probes,) = (line.partition("=")[2] for line in settings.read_text().splitlines() if "HTTP_ADDRESS" in line)
    with ExitStack() as stack:
        for number in range(SLOW_WRITERS):
            url = urls[number % WRITTEN_PATHS]
            stack.enter_context(slow_writer(attacked, f"{url.path}?{url.query}"))
        await until(lambda: put(locations[0], b"x").status_code == 503)
        for path in ("healthz", "readyz", "metrics"):
            assert get(f"http://{probes}/{path}").status_code == 200
    await until(lambda: put(locations[0], b"x").status_code == 200)


async def test_one_url_does_not_take_the_capacity_of_others(attacked: Sandbox, proxy: DataProxyServiceStub) -> None:
    location = await proxy.CreateUploadLocation(upload_request("one-url", filename="f", filename_root="r"))
    other = await proxy.CreateUploadLocation(upload_request("one-url", filename="g", filename_root="r"))
    url = urlsplit(location.signed_url)
    with ExitStack() as stack:
        for _ in range(SLOW_WRITERS):
            stack.enter_context(slow_writer(attacked, f"{url.path}?{url.query}"))
        await until(lambda: put(location, b"x").status_code == 429)
        assert put(other, b"x").status_code == 200
    await until(lambda: put(location, b"x").status_code == 200)
